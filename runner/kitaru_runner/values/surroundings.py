"""What values ask of the code that they are in: whatever execution that belongs to. Standard library only."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol


class Surroundings(Protocol):
    """A branch of an execution."""

    @property
    def may_pickle(self) -> bool:
        """What `[values] pickle` says for the flow."""


here: ContextVar[Surroundings | None] = ContextVar("kitaru_branch", default=None)
"""None: no execution's."""
