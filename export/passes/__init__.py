"""Graph passes: each takes an ONNX model and gives an equivalent or a cheaper one, with a record of what it did."""
