"""The time of a flow's event loop in a replay: moved on with the outcomes that are handed out.

Without it, `asyncio.timeout` and `wait_for` of the flow's own would begin anew in each attempt while recorded outcomes
come at once, and would end elsewhere among them than they did.
"""

from __future__ import annotations

import asyncio
import heapq

from kitaru_runner.context import current
from kitaru_runner.recorded import Recorded, is_cancellation


class ReplayedTime:
    """Lets a flow's timers be over in a replay before the outcomes that they were over before.

    The loop's time runs as ever, and is moved on to where it was when an outcome was recorded, from timer to timer. So
    `wait_for` and `timeout` end the same way again, and as soon as the replay has come there. For a checkpoint that
    executes meanwhile no time passes by that: its timers are moved on as far.
    """

    def __init__(self, side: object, loop: asyncio.AbstractEventLoop, recorded: Recorded) -> None:
        """
        Args:
            side: whose own timers are none of the flow's.
        """
        self._side = side
        self._loop = loop
        self._machine = loop.time
        self._ahead = 0.0
        self._began = loop.time()
        self._entries = recorded.by_number()
        self._began_us = min((e.started_us or e.ended_us for e in self._entries.values()), default=0)
        self._given_up_at: dict[int, float] = {}
        if self._entries:
            try:
                loop.time = self._read  # type: ignore[method-assign]  # what asyncio's own loops ask for the time
            except AttributeError:  # uvloop's is its own: its timers begin anew
                self._entries = {}

    def _read(self) -> float:
        return self._machine() + self._ahead

    def reach(self, seq: int) -> bool:
        """Move on to where this outcome was recorded; True: only to a timer that was over before."""
        entry = self._entries.get(seq)
        if entry is None:
            return False
        until = self._began + (entry.ended_us - self._began_us) / 1_000_000
        timers = [handle.when() for handle in self._scheduled() if self._is_flows(handle)]
        if is_cancellation(entry):
            # One of these made its caller give up; it was set a little later than it is now.
            until = self._given_up_at.setdefault(seq, max([until, *timers]))
        first = min(timers, default=until + 1)
        self._move(min(first, until) - self._read())
        return first <= until

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
