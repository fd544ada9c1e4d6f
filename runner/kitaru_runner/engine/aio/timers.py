"""The timers of a flow's own: each that is over is recorded, and has its turn among the outcomes.

`asyncio.sleep`, `timeout` and `wait_for` of a flow's body end by timers of its loop. Whether one was over before an
outcome came is part of the way that the flow took, so the journal says it: in a replay a recorded timer is over in its
turn, at once, and one that is not recorded is not over before all that is.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

from kitaru_registry.clock import now_us
from kitaru_registry.journal.entries import Entry, Kind, Opening
from kitaru_runner.engine.aio.turns import Turns, ended
from kitaru_runner.engine.core.calls import Branch, current, this_branch

NAME = "asyncio:timer"
"""Stands for itself in keys: no checkpoint can have it."""


class Timer(asyncio.TimerHandle):
    """What `loop.call_at` gives to a flow's body."""

    def __init__(
        self, turns: Turns, key: str, when: float, callback: Callable[..., Any], args: Any,
        context: contextvars.Context | None,
    ) -> None:  # fmt: skip
        loop = asyncio.get_running_loop()
        super().__init__(when, callback, args, loop, context)
        self._turns = turns
        self._key = key
        self._turn = loop.create_future()
        self._turn.add_done_callback(self._in_turn)
        self._clock: asyncio.TimerHandle | None = None

    def over_in_turn(self, seq: int) -> None:
        """It was over in an earlier attempt."""
        self._turns.enlist(seq, self._turn)

    def over_by(self, clock: asyncio.TimerHandle) -> None:
        """`clock` will call `over`."""
        self._clock = clock

    def over(self) -> None:
        if self._turns.records:
            self._turns.commit_soon(Entry(Kind.ENDED, self._key, now_us()), self._turn)
        else:
            self._run()

    def _in_turn(self, turn: asyncio.Future[None]) -> None:
        # Where it could not be recorded the attempt was halted, and the flow goes on to its end; not in a process that
        # ends.
        if isinstance(turn.exception(), Exception | None):
            self._run()

    def cancel(self) -> None:
        super().cancel()
        # So that nothing is scheduled: the loop may be closed by now.
        self._turn.remove_done_callback(self._in_turn)
        self._turn.cancel()
        if self._clock is not None:
            self._clock.cancel()


class Timers:
    """Makes the timers of a flow's loop."""

    def __init__(self, turns: Turns, loop: asyncio.AbstractEventLoop, opening: Opening) -> None:
        self._turns = turns
        self._loop = loop
        self._over = ended(opening)
        self._passed_us, self._origin_us = passed(opening)
        self._last = max(self._passed_us, default=0)
        self._reached = 0
        self.call_at = loop.call_at
        """The loop's own, for the engine's timers: these are no part of the flow's way."""
        try:
            # Where call_later and all of asyncio come by.
            loop.call_at = self._begin  # type: ignore[method-assign,assignment]  # typeshed's has a TypeVarTuple
        except AttributeError:  # uvloop's cannot be replaced: its timers are not recorded
            pass

    def leave(self) -> None:
        if vars(self._loop).get("call_at") == self._begin:
            del vars(self._loop)["call_at"]

    def reached(self, seq: int) -> None:
        """That outcome was handed out."""
        self._reached = max(self._reached, seq)

    def _begin(
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:  # fmt: skip
        branch = this_branch() if context is None else context.get(current)
        if not self._is_flows(branch, callback):
            return self.call_at(when, callback, *args, context=context)
        assert branch is not None
        timer = Timer(self._turns, branch.call_without_place(NAME).key, when, callback, args, context)
        seq = self._over.get(timer._key)
        if seq is not None:
            timer.over_in_turn(seq)
        else:
            timer.over_by(self.call_at(when - self._passed_seconds(), timer.over))
        return timer

    def _is_flows(self, branch: Branch | None, callback: Callable[..., Any]) -> bool:
        """Not the engine's own, and not of a checkpoint's body."""
        return self._turns.is_flows(branch) and getattr(callback, "__self__", None) is not self._turns

    def _passed_seconds(self) -> float:
        """How long ago the timer began, in a replay.

        Where it began behind all that is recorded it may not have begun before, and has all of its time.
        """
        if not 0 < self._reached < self._last:
            return 0.0
        return max(0, now_us() - self._origin_us - self._passed_us[self._reached]) / 1_000_000


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
    retries = [at for at, entry in enumerate(own) if entry.kind == Kind.RETRY]
    for begin, end in zip([0, *retries], [*retries, len(own)], strict=True):
        yield from stretch(own[begin:end])


def stretch(entries: list[Entry]) -> Iterator[tuple[int, list[Entry]]]:
    if entries:
        yield min(entry.started_us or entry.ended_us for entry in entries), entries
