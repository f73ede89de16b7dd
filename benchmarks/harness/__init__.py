"""What the benchmarks share: texts and workloads, timing, descriptions of machine and GPU, tables and plots."""
