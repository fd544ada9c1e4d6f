"""The time of a flow's event loop in a replay: moved on with the outcomes that are handed out.

Without it, `asyncio.timeout` and `wait_for` of the flow's own would begin anew in each attempt while recorded outcomes
come at once, and would end elsewhere among them than they did.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterator, Sequence

from kitaru_registry.clock import now_us
from kitaru_runner.context import current
from kitaru_runner.protocol import Entry, Opening
from kitaru_runner.recorded import is_cancellation


class ReplayedTime:
    """Lets a flow's timers be over in a replay before the outcomes that they were over before.

    The loop's time runs as ever, and is moved on to where it was when an outcome was recorded, from timer to timer. So
    `wait_for` and `timeout` end the same way again, and as soon as the replay has come there. For a checkpoint that
    executes meanwhile no time passes by that: its timers are moved on as far.

    What comes new in a replay is no exception, or the next one would see another time: the time between two attempts
    counts. That before a retry or a replay does not: somebody asked for another beginning.
    """

    def __init__(self, side: object, loop: asyncio.AbstractEventLoop, opening: Opening) -> None:
        """
        Args:
            side: whose own timers are none of the flow's.
        """
        self._side = side
        self._loop = loop
        self._machine = loop.time
        self._ahead = 0.0
        self._began = loop.time()
        self._given_up_at: dict[int, float] = {}
        self._given_up = {entry.seq for entry in opening.entries if is_cancellation(entry)}
        self._passed_us, self._origin_us = passed(opening)
        if self._passed_us:
            try:
                loop.time = self._read  # type: ignore[method-assign]  # what asyncio's own loops ask for the time
            except AttributeError:  # uvloop's is its own: its timers begin anew
                self._passed_us = {}

    def recorded(self, entries: Sequence[Entry], last: int) -> None:
        """These are in the journal now, up to number `last`; in any thread."""
        if self._passed_us:
            for seq, entry in enumerate(entries, start=last - len(entries) + 1):
                self._passed_us[seq] = entry.ended_us - self._origin_us

    def _read(self) -> float:
        return self._machine() + self._ahead

    def reach(self, seq: int) -> bool:
        """Move on to where this outcome was recorded; True: only to a timer that was over before."""
        if seq not in self._passed_us:
            return False
        until = self._recorded_at(seq)
        timers = [handle.when() for handle in self._scheduled() if self._is_flows(handle)]
        if seq in self._given_up:
            # One of these made its caller give up; it was set a little later than it is now.
            until = self._given_up_at.setdefault(seq, max([until, *timers]))
        first = min(timers, default=until + 1)
        self._move(min(first, until) - self._read())
        return first <= until

    def stand_still(self, seq: int) -> None:
        """Move on to where this outcome was recorded, past all timers: the loop was blocked until then."""
        if seq in self._passed_us:
            self._move(self._recorded_at(seq) - self._read())

    def _recorded_at(self, seq: int) -> float:
        return self._began + self._passed_us[seq] / 1_000_000

    def _move(self, seconds: float) -> None:
        if seconds <= 0:
            return
        self._ahead += seconds
        timers = self._scheduled()
        for handle in timers:
            if not self._is_flows(handle):
                handle._when += seconds  # type: ignore[attr-defined]  # the only way to put a timer off in its place
        heapq.heapify(timers)

    def _scheduled(self) -> list[asyncio.TimerHandle]:
        timers: list[asyncio.TimerHandle] = getattr(self._loop, "_scheduled", [])
        return timers

    def _is_flows(self, handle: asyncio.TimerHandle) -> bool:
        """Not the engine's own, and not of a checkpoint's body."""
        if handle.cancelled():
            return False
        owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
        branch = handle._context.get(current)  # type: ignore[attr-defined]
        return owner is not self._side and (branch is None or branch.call is None)


def passed(opening: Opening) -> tuple[dict[int, int], int]:
    """By number, how many microseconds after the flow's beginning each entry was recorded; and when that beginning
    would have been for what is recorded from now on."""
    found: dict[int, int] = {}
    origin = last = 0
    for begun_us, entries in stretches(opening):
        origin += max(0, begun_us - last)
        for entry in entries:
            found[entry.seq] = entry.ended_us - origin
            last = max(last, entry.ended_us)
    return found, origin


def stretches(opening: Opening) -> Iterator[tuple[int, list[Entry]]]:
    """What was recorded between one beginning and the next, and when it began."""
    copied = int((opening.replay or {}).get("copied", 0))
    own = [entry for entry in opening.entries if entry.seq > copied]
    if copied:
        yield from stretch([entry for entry in opening.entries if entry.seq <= copied])
        if not own:
            yield now_us(), []
    retries = [at for at, entry in enumerate(own) if entry.kind == "r"]
    for begin, end in zip([0, *retries], [*retries, len(own)], strict=True):
        yield from stretch(own[begin:end])


def stretch(entries: list[Entry]) -> Iterator[tuple[int, list[Entry]]]:
    if entries:
        yield min(entry.started_us or entry.ended_us for entry in entries), entries
