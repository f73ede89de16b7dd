"""The runtime: scores query-document pairs with an artifact's graphs. Needs onnxruntime, tokenizers and numpy."""
