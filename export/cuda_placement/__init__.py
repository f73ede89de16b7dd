"""Which nodes of a graph CUDA has kernels for."""
