"""The share of the ceiling of this machine's matrix products that scoring reaches, by length of the pairs."""
