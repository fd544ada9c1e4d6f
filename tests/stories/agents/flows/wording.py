"""Imported by a flow only after its wait."""

CLOSING = "Yours, v1"
