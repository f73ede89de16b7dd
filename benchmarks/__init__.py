"""What `crossrank bench` measures: latency, peers on the same weights, roofline, time limits, long documents."""
