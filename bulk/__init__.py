"""Scores of whole files of pairs, in constant memory, resumed after an interruption."""
