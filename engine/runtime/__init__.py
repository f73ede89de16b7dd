"""onnxruntime: sessions, providers, and what is tried on this machine. Nothing else in the engine knows it."""
