"""Whether a thread stands still until another one lets it go on, as far as its frames show."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Collection
from types import FrameType

from kitaru_runner.engine.core.loops import SLOW_SECONDS

WAITS = threading.Condition.wait.__code__
"""By which events, queues, futures, semaphores and barriers are waited for."""

JOINS = frozenset(
    getattr(threading.Thread, name).__code__
    for name in ("join", "_wait_for_tstate_lock")
    if hasattr(threading.Thread, name)
)
"""By minor of Python, where a thread blocks for another's end."""

OF_LOOPS = frozenset({"select", "poll", "run_until_complete", "run_forever", "run"})
"""Functions in which a thread is while its event loop has nothing to do."""


_looking = threading.RLock()


def frames_of_threads() -> dict[int, FrameType]:
    """What each thread of this process executes, without a garbage collection meanwhile.

    Python before 3.11.9 holds a lock there that a collection, or a thread which that lets go on, waits for for ever:
    https://github.com/python/cpython/issues/106883
    """
    with _looking:
        collects = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()
        finally:
            if collects:
                gc.enable()


def stands(thread: int) -> bool:
    """Whether it waits for another thread, and for no short time; or has ended."""
    if thread == threading.get_ident():
        return False
    frame = frames_of_threads().get(thread)
    return frame is None or waits_for_another(frame)


def waits_for_another(frame: FrameType) -> bool:
    if frame.f_code is WAITS:
        waiter = frame.f_locals.get("waiter")
        # One that is not locked any more was woken, and is about to go on.
        return waiter is not None and waiter.locked() and is_long(frame.f_locals.get("timeout"))
    return frame.f_code in JOINS and is_long(frame.f_locals.get("timeout"))


def is_long(timeout: float | None) -> bool:
    return timeout is None or timeout < 0 or timeout > SLOW_SECONDS


def rests_on_its_loop(thread: int, of_loops: Collection[int]) -> bool:
    """Whether it runs one of these loops, and is in none of the flow's functions."""
    if thread not in of_loops:
        return False
    frame = frames_of_threads().get(thread)
    return thread == threading.get_ident() or frame is None or frame.f_code.co_name in OF_LOOPS
