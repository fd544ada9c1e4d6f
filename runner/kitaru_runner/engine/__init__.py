"""Runs a flow against its journal."""
