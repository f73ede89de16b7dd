"""What `crossrank bench` measures: latency, other rerankers on the same weights, roofline, ranking quality."""
