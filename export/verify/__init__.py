"""Whether an export scores as its source does."""
