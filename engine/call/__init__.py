"""What a caller asks, until it has its answer."""
