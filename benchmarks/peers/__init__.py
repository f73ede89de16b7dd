"""crossrank beside other rerankers, on the same weights."""
