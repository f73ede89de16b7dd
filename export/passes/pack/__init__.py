"""Let pairs of several lengths share an int8 run without padding."""
