"""How an attempt comes to rest: what is in flight ends and is recorded, and nothing new is begun behind it.

The branch whose call has ended is not told that it was recorded, so it stands still, as it would before a crash.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kitaru_registry.journal.entries import OF_CALLS, Entry


class Draining:
    """Of one attempt, from the moment on at which it is to come to rest."""

    def __init__(self) -> None:
        self._recorded: set[tuple[str, int]] = set()

    def holds(self, entries: Sequence[Entry], in_flight: Collection[Mapping[str, Any]]) -> bool:
        """Whether these, which are recorded, are not answered: a call has ended, and no call in flight waits for it."""
        ended = [(entry.key, entry.tries or 1) for entry in entries if entry.kind in OF_CALLS]
        self._recorded.update(ended)
        within = tuple(f"{call['key']}/" for call in self._left(in_flight))
        return any(not key.startswith(within) for key, _ in ended)

    def is_at_rest(self, in_flight: Collection[Mapping[str, Any]]) -> bool:
        return not self._left(in_flight)

    def _left(self, in_flight: Collection[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [call for call in in_flight if (call["key"], call["tries"]) not in self._recorded]
