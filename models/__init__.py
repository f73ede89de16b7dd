"""The artifact format (read, write, verify), the catalogue of known checkpoints, and the embedded models."""
