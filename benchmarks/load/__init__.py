"""Many callers at once: latency against offered load, throughput, shedding, memory, for crossrank and its peers."""
