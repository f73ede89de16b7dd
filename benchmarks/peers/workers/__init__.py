"""Programs that load one reranker each, run by the interpreter of the environment that has it.

`worker.py` measures; it loads a reranker through the adapter of its product, a module with

* `PACKAGES`, the distributions whose versions are reported, and `SCALE`, which is 'logit' or 'probability';
* `REFUSAL`, the name of the error by which it refuses a request, if it ever does;
* `load(**options)`, which gives a function `score(query, documents)`. Either may be a coroutine function.

Nothing here may import crossrank, except the adapter of crossrank itself: the other environments do not have it.
"""
