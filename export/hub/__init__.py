"""The Hugging Face hub: what lies in a repository, fetched by huggingface-hub into its own cache."""
