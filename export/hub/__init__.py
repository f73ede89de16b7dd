"""The Hugging Face hub: what lies in a repository, fetched by huggingface-hub into its own cache."""

USUAL_FILES = ("onnx/model.onnx", "model.onnx")
"""Where exporters write the float32 graph; the first that is there is taken."""
