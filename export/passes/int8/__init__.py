"""Quantize to int8."""
