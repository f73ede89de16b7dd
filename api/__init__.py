"""crossrank: an optimized inference engine for cross-encoder rerankers on ONNX Runtime."""

__version__ = "0.1.0"
