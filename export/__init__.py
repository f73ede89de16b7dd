"""Turns cross-encoder checkpoints into verified artifacts. Needs the `export` extra (torch, optimum, transformers)."""
