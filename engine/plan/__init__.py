"""Predicted times, and batches made from them. No threads, no clock."""
