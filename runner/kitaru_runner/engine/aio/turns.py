"""What happens on a flow's loop beside outcomes, and has its turn among them all the same."""

from __future__ import annotations

import asyncio
from typing import Protocol

from kitaru_registry.journal.entries import Entry, Kind, Opening
from kitaru_runner.engine.core.calls import Branch


class Turns(Protocol):
    """The engine's side of the loop."""

    @property
    def records(self) -> bool:
        """Whether what happens is recorded: not once the flow has ended, or was halted."""

    def enlist(self, seq: int, turn: asyncio.Future[None]) -> None:
        """Let `turn` end when the turn of that outcome has come."""

    def commit_soon(self, entry: Entry, turn: asyncio.Future[None]) -> None:
        """Make the entry durable, and let `turn` end in its turn."""

    def is_flows(self, branch: Branch | None) -> bool:
        """Whether what begins in that branch is part of the flow's way: its body's, while that is recorded."""

    def expect(self, seq: int) -> None:
        """Let nothing later have its turn before this, which is sure to be enlisted."""


def ended(opening: Opening) -> dict[str, int]:
    """Key to number of what came to its end in an earlier attempt."""
    return {entry.key: entry.seq for entry in opening.entries if entry.kind == Kind.ENDED and not entry.soft}
