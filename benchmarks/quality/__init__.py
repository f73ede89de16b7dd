"""How well models rank."""
