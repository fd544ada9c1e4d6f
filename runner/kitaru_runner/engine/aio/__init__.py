"""A flow on an event loop: its turns, tasks and calls."""
