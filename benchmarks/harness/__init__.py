"""What all benchmarks share: workloads, sampling, the description of the machine, reports."""
