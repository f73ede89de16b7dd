"""Whose turn it is, and on which worker."""
