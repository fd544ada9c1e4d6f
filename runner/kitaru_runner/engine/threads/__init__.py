"""Calls that go on beside the flow, in threads."""
