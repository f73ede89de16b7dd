"""Ray: `PairScorer` for datasets, and `deployment` for Serve. docs/ray.md has both, with figures.

Each actor and each replica holds one model, on the processors and GPUs that Ray assigned to it.
"""

from crossrank.integrations.ray.pair_scorer import PairScorer, PairScorerOptions
from crossrank.integrations.ray.serving import RerankerReplica, application, deployment

__all__ = ["PairScorer", "PairScorerOptions", "RerankerReplica", "application", "deployment"]
