"""Fuse operators for the provider."""
