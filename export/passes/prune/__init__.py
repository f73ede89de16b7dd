"""Compute the last layer only for the token that the head reads."""
