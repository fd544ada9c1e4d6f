"""Futures of `.submit` and `.map`, which resolve in the order that the journal holds.

A live future resolves in its turn: the outcome's number in the journal. A replayed one stays open until somebody
looks, and then resolves in recorded order too, so that `as_completed` and `wait(FIRST_COMPLETED)` go the same way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from kitaru_registry.errors import KitaruUsageError

T = TypeVar("T")


class CheckpointFuture(Future[T], Generic[T]):
    """A checkpoint's outcome to come. Works with `concurrent.futures.wait` and `as_completed`, and with `await`."""

    def result(self, timeout: float | None = None) -> T:
        """The value, or the failure raised. `timeout` in seconds, then TimeoutError."""
        self._refuse_to_block_a_loop()
        return super().result(timeout)

    def load(self) -> T:
        """The value: another name for `result()`."""
        return self.result()

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio

        return asyncio.wrap_future(self).__await__()

    def _refuse_to_block_a_loop(self) -> None:
        import sys

        asyncio = sys.modules.get("asyncio")
        if asyncio is None or self.done():
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise KitaruUsageError(
            "result() of an unfinished checkpoint would block the event loop", hint="write: await future"
        )


class Turnstile:
    """Lets the holders of contiguous numbers through in order."""

    def __init__(self, after: int) -> None:
        self._passed = after
        self._condition = threading.Condition()

    def pass_through(self, first: int, last: int, act: Callable[[], None] | None = None) -> None:
        """Wait until all before `first` have passed, act, and pass up to `last`."""
        with self._condition:
            while self._passed < first - 1:
                self._condition.wait()
            try:
                if act is not None:
                    act()
            finally:
                self._passed = last
                self._condition.notify_all()


class Replayed:
    """Recorded futures that nobody has looked at yet."""

    def __init__(self) -> None:
        self._open: dict[int, ReplayedFuture[Any]] = {}
        self._lock = threading.RLock()

    def add(self, future: ReplayedFuture[Any], seq: int) -> None:
        with self._lock:
            self._open[seq] = future

    def deliver(self, future: ReplayedFuture[Any]) -> None:
        with self._lock:
            for seq, known in list(self._open.items()):
                if known is future:
                    del self._open[seq]
                    future.settle()

    def deliver_to(self, waiter: object, future: ReplayedFuture[Any]) -> None:
        """Resolve, in recorded order, what this waiter of `concurrent.futures` stands at."""
        # wait() and as_completed() hold the locks of all their futures while they enlist.
        with future._condition:
            pass
        with self._lock:
            waited = sorted(seq for seq, known in self._open.items() if waiter in known._waiters)
            first_only = type(waiter).__name__ == "_FirstCompletedWaiter"
            for seq in waited[:1] if first_only else waited:
                self._open.pop(seq).settle()


class Waiters(list[object]):
    """A future's list of waiters, which says when one comes."""

    def __init__(self, future: ReplayedFuture[Any]) -> None:
        super().__init__()
        self._future = future

    def append(self, waiter: object) -> None:
        super().append(waiter)
        self._future.waited_for(waiter)


class ReplayedFuture(CheckpointFuture[T]):
    def __init__(self, replayed: Replayed, seq: int, settle: Callable[[], T]) -> None:
        super().__init__()
        self._replayed = replayed
        self._settle = settle
        self._waiters = Waiters(self)  # type: ignore[assignment]  # a list of concurrent.futures' own waiters
        replayed.add(self, seq)

    def settle(self) -> None:
        try:
            value = self._settle()
        except BaseException as failure:
            self.set_exception(failure)
        else:
            self.set_result(value)

    def result(self, timeout: float | None = None) -> T:
        self._replayed.deliver(self)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._replayed.deliver(self)
        return super().exception(timeout)

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        super().add_done_callback(fn)
        self._replayed.deliver(self)

    def waited_for(self, waiter: object) -> None:
        threading.Thread(target=self._replayed.deliver_to, args=(waiter, self), daemon=True).start()


class Pool:
    """Threads for submitted checkpoints: started at need, at most `size`, ended when there is nothing to do.

    Not ThreadPoolExecutor: that refuses work once the main thread has ended, and a script may end with `.run()`.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._work: list[Callable[[], None]] = []
        self._threads: set[int] = set()
        self._count = 0

    def submit(self, work: Callable[[], None]) -> None:
        with self._lock:
            # A thread of the pool that submits and then waits must not wait for itself.
            if self._count >= self._size and threading.get_ident() not in self._threads:
                self._work.append(work)
                return
            self._count += 1
        threading.Thread(target=self._run, args=(work,), name="kitaru-checkpoint").start()

    def _run(self, work: Callable[[], None] | None) -> None:
        ident = threading.get_ident()
        with self._lock:
            self._threads.add(ident)
        while work is not None:
            work()
            with self._lock:
                work = self._work.pop(0) if self._work else None
                if work is None:
                    self._count -= 1
                    self._threads.discard(ident)
