"""ONNX graphs: files, inputs and outputs, shapes, and edits."""
