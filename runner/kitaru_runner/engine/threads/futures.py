"""Futures of `.submit` and `.map`, which resolve in the order that the journal holds.

An outcome does not resolve its future when it comes, but when somebody looks, live and replayed alike. Who waits for
several gets, each time that they ask, the one that was recorded first: so `as_completed` and `wait(FIRST_COMPLETED)`
go the same way in every attempt, however many were ready when they were called.
"""

from __future__ import annotations

import sys
import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from zlib import crc32

from kitaru_registry.errors import KitaruUsageError
from kitaru_runner.engine.core.calls import Branch, task_of, this_branch
from kitaru_runner.engine.core.pace import MACHINE, Pace
from kitaru_runner.engine.core.specs import Work

if TYPE_CHECKING:
    from kitaru_runner.engine.core.attempt import Attempt
    from kitaru_runner.engine.core.parking import Aside
    from kitaru_runner.engine.core.unconsumed import Unconsumed

T = TypeVar("T")


class CheckpointFuture(Future[T], Generic[T]):
    """A checkpoint's outcome to come. Works with `concurrent.futures.wait` and `as_completed`, and with `await`."""

    def __init__(self, deliveries: Deliveries | None = None, *, key: str | None = None, pace: Pace = MACHINE) -> None:
        super().__init__()
        self._deliveries = deliveries
        self._pace = pace if deliveries is None else deliveries.pace
        self._hash = id(self) if key is None else crc32(key.encode())
        self.seq: int | None = None
        """The outcome's number in the journal, once it has one."""
        self.wanted = False
        """Somebody is to hear of the outcome as soon as it is recorded."""
        self.read: Callable[[], T] | None = None
        self.failed: str | None = None
        """The call's key, if its recorded outcome is a failure."""
        self.unconsumed: Unconsumed | None = None
        """Is told when the flow gets the failure that this holds."""
        self.give_up: Callable[[], bool] | None = None
        """Cancels the task that executes it."""
        if deliveries is not None:
            self._waiters = Waiters(deliveries)

    def __hash__(self) -> int:
        """The same in every attempt, because `wait` gives sets of futures, and flows iterate over them."""
        return self._hash

    def result(self, timeout: float | None = None) -> T:
        """The value, or the failure raised. `timeout` in seconds, then TimeoutError."""
        self._look()
        if not super().done():
            self._refuse_to_block_a_loop()
            self._block(timeout)
        self._given()
        return super().result(None if timeout is None else 0)

    def load(self) -> T:
        """The value: another name for `result()`."""
        return self.result()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._look()
        if not super().done():
            self._block(timeout)
        # Not where it only moves on, to a future of asyncio's that somebody awaits.
        if self.unconsumed is not None and sys._getframe(1).f_globals.get("__name__") != "asyncio.futures":
            self._given()
        return super().exception(None if timeout is None else 0)

    def done(self) -> bool:
        if self.seq is not None:
            self._look()
        return super().done()

    def cancel(self) -> bool:
        """False where it has begun in a thread, or ended. A task of the flow's loop is asked to end."""
        if self.give_up is not None:
            return self.give_up()
        return self.seq is None and super().cancel()

    def given_up(self, _: object = None) -> None:
        """Its task has ended; without an outcome it was cancelled."""
        if not super().done():
            super().cancel()
            self.set_running_or_notify_cancel()

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call `fn` with this future when it has ended.

        Raises:
            KitaruUsageError: `asyncio.wait` asks, which knows nothing of recorded order.
        """
        if getattr(fn, "__module__", "") == "asyncio.tasks" and fn.__qualname__.startswith("_wait."):
            raise KitaruUsageError(
                "asyncio.wait takes tasks, and not the futures of .submit and .map",
                hint="write: asyncio.wait([asyncio.ensure_future(future) for future in futures])",
            )
        super().add_done_callback(fn)
        self._look()

    def __await__(self) -> Generator[Any, None, T]:
        branch = this_branch()
        if self._deliveries is None or branch is None:
            return self._awaited().__await__()
        return self._deliveries.take_in_turn(branch, self).__await__()

    async def _awaited(self) -> T:
        import asyncio

        try:
            # It is not cancelled with somebody who awaits it.
            return await asyncio.shield(asyncio.wrap_future(self))
        except Exception:
            self._given()
            raise

    def _given(self) -> None:
        """The flow's code gets the outcome."""
        if self.unconsumed is not None and super().done():
            self.unconsumed.seen(self, task_of(this_branch()))

    def settle(self) -> None:
        """Resolve with the recorded outcome; by whoever claimed the future."""
        assert self.read is not None
        try:
            value = self.read()
        except BaseException as failure:
            self.set_exception(failure)
        else:
            self.set_result(value)

    def peek(self) -> T:
        """The outcome, once it is recorded, for a call that it is passed to: whoever stands here hears nothing."""
        # Not `done()`, which would let it resolve before what was recorded earlier.
        if self._deliveries is None or super().done():
            return super().result(self._until_done(None))
        recorded = threading.Event()
        aside = self._deliveries.parking.aside()

        def herald(_: object = None) -> None:
            aside.back()
            recorded.set()

        # A future whose outcome could not be recorded ends too.
        Future.add_done_callback(self, herald)
        if self._deliveries.when_recorded(self, herald):
            self._pace.until(recorded.is_set)
            recorded.wait()
        aside.back()
        return super().result() if self.read is None else self.read()

    def _block(self, timeout: float | None) -> None:
        """Until it has ended, or the time is over. The execution may park meanwhile."""
        aside = self._deliveries.parking.aside() if self._deliveries is not None else None
        if aside is not None:
            Future.add_done_callback(self, aside.back)
        try:
            left = self._until_done(timeout)
            with suppress(TimeoutError, CancelledError):  # for the caller to see
                super().exception(left)
        finally:
            if aside is not None:
                aside.back()

    def _until_done(self, timeout: float | None) -> float | None:
        return self._pace.until(super().done, timeout)

    def _look(self) -> None:
        if self._deliveries is not None:
            self._deliveries.want(self)

    def _refuse_to_block_a_loop(self) -> None:
        asyncio = sys.modules.get("asyncio")
        if asyncio is None:
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise KitaruUsageError(
            "result() of an unfinished checkpoint would block the event loop", hint="write: await future"
        )


def futures_in(work: Work) -> tuple[CheckpointFuture[Any], ...]:
    """The futures among the arguments."""
    found: list[CheckpointFuture[Any]] = []
    for value in (*work.args, *work.kwargs.values()):
        if isinstance(value, CheckpointFuture):
            found.append(value)
    return tuple(found)


def with_values(work: Work, first: Sequence[CheckpointFuture[Any]]) -> Work:
    """The call with values for its futures, after all of `first` have ended well; else the failure is raised."""
    if not first:
        return work
    values = {id(future): future.peek() for future in first}
    return work._replace(
        args=[values.get(id(value), value) for value in work.args],
        kwargs={name: values.get(id(value), value) for name, value in work.kwargs.items()},
    )


class Deliveries:
    """Outcomes that are recorded, and that nobody has looked at yet.

    User code may run when a future resolves, so that happens under no lock: a thread claims the future first.
    """

    take_in_turn: Callable[[Branch, CheckpointFuture[Any]], Coroutine[Any, Any, Any]]
    """The outcome on an event loop, when its turn has come: how, whoever runs the flow says."""

    def __init__(self, attempt: Attempt) -> None:
        self.parking = attempt.parking
        self.pace = attempt.pace
        self.unconsumed = attempt.unconsumed
        self._condition = threading.Condition()
        self._asides: list[Aside] = []
        self._open: dict[int, CheckpointFuture[Any]] = {}
        self._order: list[int] = []
        self._heralds: dict[CheckpointFuture[Any], list[Callable[[], None]]] = {}

    def recorded(self, future: CheckpointFuture[T], seq: int, read: Callable[[], T]) -> None:
        """The outcome is in the journal. To be called in the journal's order; `deliver` has to follow."""
        if future.failed is not None:
            self.unconsumed.holds(future, future.failed)
        with self._condition:
            future.seq, future.read = seq, read
            self._open[seq] = future
            insort(self._order, seq)
            for herald in self._heralds.pop(future, ()):
                herald()
            self._call_back()

    def deliver(self, future: CheckpointFuture[Any]) -> None:
        """Resolve a future if somebody stands at it."""
        if future.wanted:
            self.want(future)

    def want(self, future: CheckpointFuture[Any]) -> None:
        """Resolve a future now, or as soon as it is recorded."""
        with self._condition:
            future.wanted = True
            claimed = future.seq is not None and self._claim(future.seq)
        if claimed:
            future.settle()

    def when_recorded(self, future: CheckpointFuture[Any], herald: Callable[[], None]) -> bool:
        """Call `herald` once the outcome is recorded. False, and no call, where it is."""
        with self._condition:
            if future.seq is None:
                self._heralds.setdefault(future, []).append(herald)
            return future.seq is None

    def next_for(self, waiter: object, event: threading.Event, timeout: float | None) -> bool:
        """Resolve, in recorded order, what `waiter` stands at, until its event is set."""
        deadline = None if timeout is None else self.pace.monotonic() + timeout
        while not event.is_set():
            with self._condition:
                first = self._first_for(waiter)
                if first is None and not event.is_set():
                    left = None if deadline is None else deadline - self.pace.monotonic()
                    if left is not None and left <= 0:
                        return False
                    self._wait(lambda: event.is_set() or self._first_for(waiter) is not None, left)
                    continue
                future = self._open.get(first) if first is not None else None
                claimed = first is not None and self._claim(first)
            if claimed and future is not None:
                future.settle()
        return True

    def _first_for(self, waiter: object) -> int | None:
        return next((seq for seq in self._order if waiter in self._open[seq]._waiters), None)

    def notify(self) -> None:
        with self._condition:
            self._call_back()

    def _wait(self, there: Callable[[], bool], seconds: float | None) -> None:
        aside = self.parking.aside()
        self._asides.append(aside)
        try:
            self.pace.wait(self._condition, there, seconds)
        finally:
            self._asides.remove(aside)
            aside.back()

    def _call_back(self) -> None:
        for aside in self._asides:
            aside.back()
        self._condition.notify_all()

    def _claim(self, seq: int) -> bool:
        if self._open.pop(seq, None) is None:
            return False
        del self._order[bisect_left(self._order, seq)]
        return True


class Waiters(list[Any]):
    """A future's list of waiters: each is given an event that asks for outcomes when somebody waits for it."""

    def __init__(self, deliveries: Deliveries) -> None:
        super().__init__()
        self._deliveries = deliveries

    def append(self, waiter: Any) -> None:
        if not isinstance(waiter.event, AskingEvent):
            waiter.event = AskingEvent(self._deliveries, waiter)
        super().append(waiter)


class AskingEvent(threading.Event):
    """The event of one waiter of `concurrent.futures`."""

    def __init__(self, deliveries: Deliveries, waiter: object) -> None:
        super().__init__()
        self._deliveries = deliveries
        self._waiter = waiter

    def wait(self, timeout: float | None = None) -> bool:
        return self._deliveries.next_for(self._waiter, self, timeout)

    def set(self) -> None:
        super().set()
        self._deliveries.notify()
