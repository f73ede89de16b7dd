"""Many callers at once: latency against offered load, throughput, refused requests, memory; crossrank and its peers."""
