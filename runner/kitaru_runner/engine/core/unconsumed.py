"""What a retry executes again: the recorded failures that nothing in a flow has consumed when an exception ends it.

They are those that this exception is, groups, came from or was raised beside, and those that nobody has looked at: in
futures and tasks that nobody awaited, or whose outcome had not had its turn. Of the calls side by side in one
`asyncio.gather` only the first failure is raised, and it stands for the others too. What the flow caught is consumed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from kitaru_registry.journal.giving_up import CANCELLED
from kitaru_runner.values.exception_parts import FAILED_CALL
from kitaru_runner.values.exceptions import recorded_failure
from kitaru_runner.values.named_types import type_name

if TYPE_CHECKING:
    import asyncio
    from types import FrameType


THREADS = ("concurrent.futures.thread", "threading")
"""What catches an exception that ends what a thread does."""

MOST_WATCHED = 1024
"""Tasks and futures that are followed, before those are forgotten that somebody has looked at."""


class Future(Protocol):
    """One of `.submit` or `.map`."""

    unconsumed: Unconsumed | None


class Unconsumed:
    """Follows the failures of one attempt. What is not on a loop of the flow's is told from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ungiven: dict[str, None] = {}
        self._futures: dict[int, tuple[Future, str | BaseException]] = {}
        self._watched: dict[int, asyncio.Future[Any]] = {}
        self._most_watched = MOST_WATCHED
        # Retrieved by asyncio itself, and given to nobody.
        self._dropped: set[int] = set()
        # Failures that were raised for none, by what was raised instead.
        self._beside: dict[int, tuple[BaseException, list[BaseException]]] = {}
        self._given_up: dict[str, asyncio.Task[Any] | None] = {}
        self._in_threads: dict[str, asyncio.Task[Any]] = {}
        self._of_threads: dict[str, BaseException] = {}
        self._body = threading.get_ident()
        self.until: int | None = None
        """What is recorded behind this number came too late for the flow's body."""

    # What happens

    def recorded(self, key: str) -> None:
        """A failure is in the journal, and has not had its turn."""
        with self._lock:
            self._ungiven[key] = None

    def body_begins(self) -> None:
        """In this thread."""
        self._body = threading.get_ident()

    def given(
        self, key: str, task: asyncio.Task[Any] | None = None, error: BaseException | None = None
    ) -> None:  # fmt: skip
        """The flow's code has a recorded failure, in that task, or in the task or thread that runs now."""
        with self._lock:
            self._ungiven.pop(key, None)
        task = task or running_task()
        if task is None:
            if error is not None and threading.get_ident() != self._body:
                self._of_threads[key] = error
            return
        if task.get_loop() is not running_loop():
            with self._lock:
                self._in_threads[key] = task
        self.watch(task)

    def body_ended(self, passed: int) -> None:
        """By an exception, when the outcomes up to that number had been handed out."""
        if self.until is None:
            self.until = passed

    def gave_up(self, key: str, error: BaseException, task: asyncio.Task[Any] | None) -> None:
        """The caller was cancelled, by `error`, which is on record as the call's outcome."""
        error.__dict__.setdefault(FAILED_CALL, key)
        with self._lock:
            self._ungiven.pop(key, None)
            self._given_up[key] = task or running_task()

    def holds(self, future: Future, failure: str | BaseException) -> None:
        """A future of `.submit` or `.map` has a failure, known by its call's key or by itself."""
        future.unconsumed = self
        with self._lock:
            self._futures[id(future)] = future, failure

    def seen(self, future: Future, task: asyncio.Task[Any] | None) -> None:
        """The flow's code has the failure of that future."""
        with self._lock:
            _, failure = self._futures.pop(id(future), (future, None))
        if failure is not None:
            self.given(failure if isinstance(failure, str) else "", task)

    # Tasks, and futures of asyncio

    def watch(self, task: asyncio.Task[Any]) -> None:
        """Learn whether somebody looks at what the task ends with, and those that wait for it."""
        loop = task.get_loop()
        if loop is not running_loop():
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._watch_with_creators, task)
            return
        self._watch_with_creators(task)

    def _watch_with_creators(self, task: asyncio.Task[Any] | None) -> None:
        while task is not None and id(task) not in self._watched:
            self._watch(task)
            task.add_done_callback(self._ended)
            created_by: Callable[[], asyncio.Task[Any] | None] | None = getattr(task, "created_by", None)
            task = created_by() if created_by is not None else None

    def _watch(self, future: asyncio.Future[Any]) -> None:
        if len(self._watched) >= self._most_watched:
            self._watched = {
                key: each for key, each in self._watched.items() if not each.done() or self._is_unseen(each)
            }
            self._most_watched = max(MOST_WATCHED, 2 * len(self._watched))
        self._watched[id(future)] = future
        future.exception = partial(self._look_at, future)  # type: ignore[method-assign]  # of this one alone

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or exception_of(task) is None:
            self._watched.pop(id(task), None)

    def _look_at(self, future: asyncio.Future[Any]) -> BaseException | None:
        error = type(future).exception(future)
        if error is not None:
            self._looked(future, error, sys._getframe(1))
        return error

    def _looked(self, future: asyncio.Future[Any], error: BaseException, by: FrameType) -> None:
        """Somebody asked for an exception: the flow, or asyncio for another future, which may have ended."""
        outer = outer_of(by)
        if outer is None:
            self._dropped.discard(id(future))
        elif not outer.done():
            self._watch(outer)
        elif (raised := exception_of(outer)) is not None:
            if raised is not error:
                self._beside.setdefault(id(raised), (raised, []))[1].append(error)
        else:
            self._dropped.add(id(future))

    # What is left

    def keys(self, error: BaseException) -> list[str] | None:
        """Of what is not consumed, where this exception has ended the flow; None where nothing is."""
        seen: set[int] = set()
        found = dict.fromkeys(self._closure(error, seen))
        unseen = [exception_of(future) for future in self._watched.values() if self._is_unseen(future)]
        for failure in (*unseen, *[failure for _, failure in self._futures.values()]):
            if isinstance(failure, str):
                found[failure] = None
            elif failure is not None:
                found |= dict.fromkeys(self._closure(failure, seen))
        found |= dict.fromkeys(key for key, error in self._of_threads.items() if is_left_in_thread(error))
        # Of these the task that awaits the thread has not heard.
        lost = [key for key, task in self._in_threads.items() if not task.done() or task.cancelled()]
        return list(found | self._ungiven | dict.fromkeys(lost)) or None

    def cut(self) -> list[str] | None:
        """The calls whose callers gave up, in branches that ended so; None where no caller has given up."""
        if not self._given_up:
            return None
        return [key for key, task in self._given_up.items() if task is None or not task.done() or task.cancelled()]

    def _is_unseen(self, future: asyncio.Future[Any]) -> bool:
        """Whether it ended with an exception at which nobody has looked: asyncio warns of these, too."""
        if not future.done() or future.cancelled():
            return False
        return bool(getattr(future, "_log_traceback", False)) or id(future) in self._dropped

    def _closure(self, error: BaseException, seen: set[int]) -> Iterator[str]:
        """Keys of the recorded failures that this exception is, groups, came from or was raised beside.

        A wait that nobody answered in time, which a flow handles, is not to be asked again because the handling failed:
        of what is known only as what was being handled, waits do not count.
        """
        left = [(error, False)]
        while left:
            error, caught = left.pop()
            if id(error) in seen:
                continue
            seen.add(id(error))
            recorded = recorded_failure(error)
            if recorded is not None and "checkpoint" in recorded:
                yield recorded["checkpoint"]
            elif FAILED_CALL in error.__dict__ and (not caught or is_cancelled_error(error)):
                yield error.__dict__[FAILED_CALL]
            beside = self._beside.get(id(error), (error, ()))[1]
            left += [(other, False) for other in reversed(beside)]
            if recorded is not None and "cause" in recorded:
                # Of a child execution: its checkpoints are not this one's.
                continue
            if error.__context__ is not None:
                # Also `raise ... from None`: that hides it from a reader, and was raised because of it all the same.
                left.append((error.__context__, True))
            group = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
            left += [(inner, caught) for inner in (error.__cause__, *reversed(group)) if inner is not None]


def is_cancelled_error(error: BaseException) -> bool:
    return type_name(type(error)) == CANCELLED


def is_left_in_thread(error: BaseException) -> bool:
    """Whether it has ended what a thread of the flow's own was to do, and was raised nowhere since."""
    outermost = error.__traceback__
    return outermost is not None and outermost.tb_frame.f_globals.get("__name__") in THREADS


def exception_of(future: asyncio.Future[Any]) -> BaseException | None:
    """Its exception, if it has ended with one, without looking at it as far as asyncio knows."""
    found: BaseException | None = getattr(future, "_exception", None)
    return found


def outer_of(frame: FrameType) -> asyncio.Future[Any] | None:
    """The future for which `asyncio.gather` or `shield` asks for one of its own."""
    if frame.f_globals.get("__name__") != "asyncio.tasks":
        return None
    if frame.f_code.co_name not in ("_done_callback", "_inner_done_callback"):
        return None
    found: asyncio.Future[Any] | None = frame.f_locals.get("outer")
    return found


def running_loop() -> asyncio.AbstractEventLoop | None:
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()


def running_task() -> asyncio.Task[Any] | None:
    loop = running_loop()
    return None if loop is None else sys.modules["asyncio"].current_task(loop)
