"""The event loops that an execution runs: the one of an asynchronous body, and those that its code runs by itself.

Standard library without asyncio: most flows have none.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio

SLOW_SECONDS = 5.0
"""A timer of the flow's own that is due within this, or a thread's pause that is shorter, keeps it from parking."""


class Side(Protocol):
    """The engine's side on one of them."""

    thread: int
    """Which thread runs it."""
    is_over: bool

    @property
    def is_running(self) -> bool:
        """Whether it is at work, at this moment."""

    @property
    def rests(self) -> bool:
        """Whether nothing is ready on it, and no timer of the flow's own is due soon."""

    @property
    def waits(self) -> bool:
        """Whether a task stands at a wait."""

    def delivered(self, seq: int) -> None:
        """That outcome was handed out, there or elsewhere."""

    def answered(self, key: str) -> None:
        """An answer has come, in any thread."""

    def halted(self, error: BaseException) -> None:
        """Let every standing wait raise this; in any thread."""

    def given(self, scope: str) -> None:
        """A pool was given a call, by the thread of this loop, in that scope."""

    def watch(self) -> None:
        """Let it look, from now on, whether the execution may park; in any thread."""

    def leave(self) -> None:
        """Give the loop its own methods back."""


class Numbers:
    """A set of numbers of a journal's entries: a bit each, for there may be very many."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, number: int) -> None:
        at = number >> 3
        if at >= len(self._bits):
            self._bits.extend(bytes(at + 1 - len(self._bits)))
        self._bits[at] |= 1 << (number & 7)

    def __contains__(self, number: int) -> bool:
        at = number >> 3
        return at < len(self._bits) and bool(self._bits[at] & 1 << (number & 7))


class Loops:
    """The sides of one attempt."""

    def __init__(self) -> None:
        self.sides: list[Side] = []
        self.handed_out = Numbers()
        """Numbers of the recorded outcomes that this attempt has handed out."""
        self._tasks: set[asyncio.Task[Any]] = set()

    def add(self, side: Side) -> None:
        self.sides = [other for other in self.sides if other.is_running or not other.is_over] + [side]

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold a task of the flow's loop, which itself holds only weak references."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def delivered(self, seq: int) -> None:
        """An outcome was given to synchronous code, in its own order."""
        self.handed_out.add(seq)
        for side in self.sides:
            side.delivered(seq)

    def answered(self, key: str) -> None:
        for side in self.sides:
            side.answered(key)

    def halted(self, error: BaseException) -> None:
        for side in self.sides:
            side.halted(error)

    def given(self, scope: str) -> None:
        """A pool was given a call, in a scope of its own."""
        for side in self.sides:
            if side.thread == get_ident():
                side.given(scope)

    def end(self) -> None:
        """The body has ended. The tasks that it left are cut short, which is no outcome of theirs."""
        for side in self.sides:
            side.is_over = True

    def leave(self) -> None:
        for side in self.sides:
            side.leave()

    @property
    def running(self) -> Iterable[Side]:
        return [side for side in self.sides if side.is_running]
