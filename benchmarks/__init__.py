"""What `crossrank bench` measures, one folder for each question.

`latency/`: how long calls take. `peers/`: how other rerankers do on the same weights. `ceiling/`: how much of the
machine's matrix products scoring reaches. `load/`: many callers at once. `quality/`: rankings under time limits and of
long documents. `cascade/`: which cascade to use. `harness/`: what these share.

A measurement is a generator: each part that it finishes gives the figures so far, which are kept at once. So what fails
later loses no part before it. Figures are frozen dataclasses that know their tables and plots.
"""
