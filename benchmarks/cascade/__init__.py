"""Tuning a cascade: measures scores and times of possible stages and chooses the fastest cascade that ranks well."""
