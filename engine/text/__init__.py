"""Texts to token arrays. No onnxruntime."""
