"""Whoever executes on a home: claims, serves, ends."""
