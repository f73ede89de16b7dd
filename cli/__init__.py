"""The command line of crossrank."""
