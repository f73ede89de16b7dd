"""Adapters to frameworks, one module each; each needs its framework and nothing here imports one by itself."""
