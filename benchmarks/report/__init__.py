"""A page about a model on this machine: what it is, what was verified with what, and how long calls take."""
