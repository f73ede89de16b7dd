"""What a checkpoint is: read without torch, loaded with it, converted to ONNX."""
