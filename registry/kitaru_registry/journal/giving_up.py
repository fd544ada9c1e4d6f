"""How a journal says that a caller gave up waiting. Standard library only: every child imports this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CANCELLED = "asyncio.exceptions:CancelledError"

OWN_CANCELLATION = "raised_by_itself"
"""Marks a failure that looks like its caller's giving up, and is not."""


def says_given_up(error: Mapping[str, Any] | None) -> bool:
    """Whether a recorded failure is that the caller was cancelled."""
    return error is not None and error.get("class") == CANCELLED and OWN_CANCELLATION not in error
