"""What a way to call costs in ranking quality: time limits, and long documents read in windows."""
