"""What an attempt needs of a record, whatever keeps that: in twelve verbs. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from kitaru_registry.journal.entries import Answer, ChildRequest, Encoded, Entry, Loaded, Outcome, WaitRequest


class Answers(Protocol):
    """Who wants to hear of answers: whoever stands at waits."""

    def answered(self, key: str, answer: Answer) -> None: ...


Recorded = Callable[[int], None]
"""Hears the number of the last of some entries. It does not wait, and calls no code of the user's."""


def nothing(last: int) -> None:
    """Nobody is to hear of it."""


class Journal(Protocol):
    """What an attempt needs of the record. Every call may raise KitaruFencedError."""

    def record(self, entries: Sequence[Entry], recorded: Recorded = nothing) -> int:
        """Make entries durable, all or none, in this order. The number of the last; they are contiguous.

        Args:
            recorded: is given that number as soon as there is one, by whichever thread learns of it first.
        """

    def started(self, key: str, name: str, tries: int, at_us: int) -> None:
        """Note that a try began; best effort."""

    def left(self, key: str, tries: int) -> None:
        """Note that a try ended, and that nothing will be recorded of it; best effort."""

    def open_wait(self, wait: WaitRequest) -> Answer | None:
        """Make a wait known; its answer if it is there already."""

    def park(self) -> bool:
        """Nothing can go on without an answer. True: the process must end; False: it may stay and will be told."""

    def value(self, entry: Entry) -> Encoded:
        """The value of an entry that came without it."""

    def load(self, exec_id: str, name: str, index: int | None = None) -> Loaded:
        """An artifact, or a checkpoint's output, of any execution of this home and project."""

    def cached(self, key: bytes) -> tuple[Encoded, str] | None:
        """A value recorded under that cache key, and the execution and checkpoint that recorded it."""

    def child(self, request: ChildRequest) -> tuple[str, int]:
        """Make a child execution, recorded as an entry `x`; its id, and the entry's number."""

    def attend(self, exec_id: str) -> None:
        """See to it that somebody works on a child execution that was made before."""

    def outcome(self, exec_id: str) -> Outcome:
        """How an execution stands, or how it ended."""

    def stop(self, key: str) -> None:
        """End the execution before the call of that key, which nothing is recorded of. The last call."""

    def finish(self, outcome: Outcome) -> bool:
        """End the execution; whether it begins anew, as the flow's own retries say. The last call."""
