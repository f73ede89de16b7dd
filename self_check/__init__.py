"""Whether the engine is right on this machine: the checks behind `crossrank self-check`, one concern a file.

For the owner of a GPU, who learns in one command whether scores there are those of the CPU, and has a file to attach to
a report where they are not. On the CPU the same checks run on the CPU path. What concerns CUDA alone has not been run
on a GPU yet.
"""
