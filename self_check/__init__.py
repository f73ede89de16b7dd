"""Whether the engine is right on this machine: the checks behind `crossrank self-check`, one check a file.

They tell the owner of a GPU in one command whether scores on it equal those on the CPU, and write a file to attach to a
bug report where they do not. On the CPU the same checks run on the CPU path. What concerns CUDA alone has not been run
on a GPU yet.
"""
