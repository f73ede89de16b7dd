"""Measurements give what they have after each part; most tests look at the whole."""

from __future__ import annotations


def whole(parts):
    """The last of the parts, which holds all before it."""
    *_, last = parts
    return last
