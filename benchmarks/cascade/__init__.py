"""Choosing the stages of a cascade."""
