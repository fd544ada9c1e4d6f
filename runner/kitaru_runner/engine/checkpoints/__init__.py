"""Calls of checkpoints, found or executed; what else a flow stands at."""
