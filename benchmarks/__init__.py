"""What `crossrank bench`, `bench-load` and `tune-cascade` measure, one folder for each question.

`latency/`: how long calls take. `peers/`: how other rerankers do on the same weights. `load/`: many callers at once.
`cascade/`: which cascade to use. `harness/`: what these share.
"""
