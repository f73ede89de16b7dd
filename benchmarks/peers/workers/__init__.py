"""Programs that load one reranker each, run by the interpreter of the environment that has it.

`worker.py` times calls, `load_worker.py` runs many callers at once. Each loads a reranker through the adapter of its
product: `load` for the former, `load_async` for the latter. Nothing here may import crossrank, except the adapter of
crossrank itself: the other environments do not have it.
"""
