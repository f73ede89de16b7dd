"""Runs on CUDA GPUs: padded to a few shapes, captured once as CUDA graphs. Not run on a GPU yet."""
