"""Convert to float16."""
