"""Scores of whole files of pairs, in constant memory, resumed after an interruption."""

from __future__ import annotations

from crossrank.bulk.layout import Layout
from crossrank.bulk.progress import Progress, Summary
from crossrank.bulk.score_files import score_files

__all__ = ["Layout", "Progress", "Summary", "score_files"]
