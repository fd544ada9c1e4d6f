"""One attempt at a flow's body, from the top to an outcome."""
