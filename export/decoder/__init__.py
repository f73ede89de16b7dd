"""Graphs of decoders: models whose tokens attend to those before them only."""
