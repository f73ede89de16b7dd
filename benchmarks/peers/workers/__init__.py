"""Processes that hold one reranker each: `worker.py` with an adapter, run by the interpreter of any environment.

Nothing here may import crossrank, except the adapter of crossrank itself: the other environments do not have it.
"""
