"""The threads and event loops that a tested flow makes by itself: they take turns like those of the engine.

While a schedule runs, a thread that one of its threads starts is one of them, hands on where it blocks for another, and
a loop that is made there is a seeded one. All other threads of the process do what they always do.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread as pools
import queue
import sys
import threading
import time
from collections.abc import Callable, Collection
from functools import wraps
from types import FrameType
from typing import Any, cast

from kitaru.testing.lines import Line, Turns, is_of_standard_library
from kitaru.testing.loops import SeededLoop
from kitaru_runner.engine.core.blocking import frames_of_threads, stands
from kitaru_runner.values.failures import OWN_PACKAGES, is_ours

turns: dict[int, tuple[Turns, Line]] = {}
"""By thread, whose turns it takes."""


class OwnThreads:
    """Sees them, as long as any schedule of this process runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._replaced: list[tuple[Any, str, Any, Any]] = []

    def begin(self) -> None:
        with self._lock:
            self._running += 1
            if self._running == 1:
                self._replace(threading.Thread, "start", starting)
                self._replace(threading.Thread, "join", joining)
                self._replace(threading.Condition, "wait", waiting)
                self._replace(pools.ThreadPoolExecutor, "__init__", making_pool)
                self._replace(asyncio.SelectorEventLoop, "__init__", making_loop)

    def end(self) -> None:
        with self._lock:
            self._running -= 1
            while self._replaced and not self._running:
                where, name, before, now = self._replaced.pop()
                # Somebody may have put something around it since: that goes on to call the original.
                if vars(where).get(name) is now:
                    setattr(where, name, before)

    def _replace(self, where: Any, name: str, make: Callable[[Any], Any]) -> None:
        before = vars(where)[name]
        now = make(before)
        self._replaced.append((where, name, before, now))
        setattr(where, name, now)


own_threads = OwnThreads()


def starting(original: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    @wraps(original)
    def start(thread: threading.Thread) -> None:
        taken = of_this_thread()
        if taken is None or runs_ours(thread):
            original(thread)
        else:
            taken[0].adopt(thread, lambda: original(thread))

    return start


def joining(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def join(thread: threading.Thread, timeout: float | None = None) -> None:
        blocked = blocks_for_another(sys._getframe(1))
        if blocked is None or not blocked[0].turns_all([thread]) or thread is threading.current_thread():
            return original(thread, timeout)
        schedule, line = blocked
        ends_at = None if timeout is None else time.monotonic() + timeout
        if schedule.block(line, lambda: not schedule.turns_all([thread]), timeout):
            return original(thread, None if not schedule.turns_all([thread]) else 0)
        return original(thread, None if ends_at is None else ends_at - time.monotonic())

    return join


def waiting(original: Callable[..., bool]) -> Callable[..., bool]:
    @wraps(original)
    def wait(condition: Any, timeout: float | None = None) -> bool:
        blocked = blocks_for_another(sys._getframe(1)) if timeout is None or timeout > 0 else None
        if blocked is None or not condition._is_owned():
            return original(condition, timeout)
        return wait_in_turn(condition, *blocked, timeout)

    return wait


def wait_in_turn(condition: Any, schedule: Turns, line: Line, timeout: float | None) -> bool:
    """What `Condition.wait` does, with a turn for the others instead of a thread that blocks."""
    waiter = threading.Lock()
    waiter.acquire()
    condition._waiters.append(waiter)
    ends_at = None if timeout is None else time.monotonic() + timeout
    saved = condition._release_save()
    notified = False
    try:
        if schedule.block(line, lambda: not waiter.locked(), timeout):
            notified = not waiter.locked()
        elif ends_at is None:
            notified = waiter.acquire()
        else:
            notified = waiter.acquire(True, max(0.0, ends_at - time.monotonic()))
        return notified
    finally:
        condition._acquire_restore(saved)
        if not notified and waiter in condition._waiters:
            condition._waiters.remove(waiter)


def making_pool(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def init(pool: Any, *args: Any, **kwargs: Any) -> None:
        original(pool, *args, **kwargs)
        if of_this_thread() is not None:
            # The other one blocks where nobody sees it.
            pool._work_queue = queue._PySimpleQueue()  # type: ignore[attr-defined]  # not in typeshed

    return init


def making_loop(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def init(loop: Any, selector: Any = None) -> None:
        taken = of_this_thread()
        if taken is None or selector is not None or type(loop) is not asyncio.SelectorEventLoop:
            original(loop, selector)
        else:
            loop.__class__ = SeededLoop
            SeededLoop.__init__(cast(SeededLoop, loop), *taken[0].for_loops)

    return init


def of_this_thread() -> tuple[Turns, Line] | None:
    """Whose turns this thread takes; None: nobody's, or it is the schedule itself that goes on in it."""
    taken = turns.get(threading.get_ident())
    return None if taken is None or taken[1].is_blind or taken[1].is_standing else taken


def runs_ours(thread: threading.Thread) -> bool:
    """Whether what a thread is about to run is Kitaru's own."""
    work = getattr(thread, "_target", None) or type(thread)
    return str(getattr(work, "__module__", "")).partition(".")[0] in OWN_PACKAGES


def blocks_for_another(frame: FrameType | None) -> tuple[Turns, Line] | None:
    """Whose turns this thread takes, where it is the flow's code, or a library's, that blocks."""
    taken = of_this_thread()
    if taken is None:
        return None
    while frame is not None and is_of_standard_library(frame):
        frame = frame.f_back
    return None if frame is not None and is_ours(frame) and not is_turn(frame) else taken


def is_turn(frame: FrameType) -> bool:
    """Whether it is where a thread of the flow's own begins."""
    return frame.f_code.co_name in ("in_turn", "run_in")


def others_at_work(known: Collection[threading.Thread], before: Collection[int]) -> bool:
    """Whether threads of this process that take no turns may be at work.

    Args:
        before: the threads that there were when the flow began; of those, whoever made them may not have told Python's
            `threading` of them, as pytest's own, and they are nothing of the flow's.
    """
    taken = {thread.ident for thread in known} | {threading.get_ident()}
    told = {thread.ident for thread in threading.enumerate()}
    others = [each for each in frames_of_threads() if each not in taken and (each in told or each not in before)]
    return any(not stands(ident) and not is_pools(ident) for ident in others)


def is_pools(ident: int) -> bool:
    """Whether it is a pool's thread without work."""
    frame = frames_of_threads().get(ident)
    return frame is not None and frame.f_code is pools._worker.__code__
