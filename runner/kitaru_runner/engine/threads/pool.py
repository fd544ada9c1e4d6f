"""The threads in which submitted checkpoints execute."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from kitaru_runner.engine.core.pace import MACHINE, Pace


class Pool:
    """Threads for submitted checkpoints: started at need, at most `size`, ended when there is nothing to do.

    Whoever submits a hundred calls starts one thread; that starts those that there is work for when it begins. So they
    take the interpreter once all is submitted, or it was held for long, and not from every call.

    Not ThreadPoolExecutor: that refuses work once the main thread has ended, and a script may end with `.run()`.
    """

    def __init__(self, size: int, pace: Pace = MACHINE) -> None:
        self._size = size
        self._pace = pace
        self._lock = threading.Lock()
        self._work: deque[Callable[[], None]] = deque()
        self._threads: set[int] = set()
        self._count = 0
        self._beginning = 0

    def submit(self, work: Callable[[], None]) -> None:
        with self._lock:
            # A thread of the pool that submits and then waits must not wait for itself.
            if self._count >= self._size and threading.get_ident() in self._threads:
                self._count += 1
                begin, own = 1, work
            else:
                self._work.append(work)
                begin, own = 0 if self._beginning else self._to_begin(1), None
        self._begin(begin, own)

    def _to_begin(self, most: int) -> int:
        """How many threads to begin now; they count from now on."""
        number = max(0, min(most, len(self._work) - self._beginning, self._size - self._count))
        self._count += number
        self._beginning += number
        return number

    def _begin(self, number: int, work: Callable[[], None] | None = None) -> None:
        for _ in range(number):
            self._pace.start_unawaited(partial(self._run, work), "kitaru-checkpoint")

    def _run(self, work: Callable[[], None] | None) -> None:
        ident = threading.get_ident()
        with self._lock:
            self._threads.add(ident)
            if work is None:
                self._beginning -= 1
                work = self._work.popleft() if self._work else None
            begin = self._to_begin(self._size)
        self._begin(begin)
        while work is not None:
            work()
            with self._lock:
                work = self._work.popleft() if self._work else None
                if work is None:
                    self._leave(ident)
                    return
        with self._lock:
            self._leave(ident)

    def _leave(self, ident: int) -> None:
        self._count -= 1
        self._threads.discard(ident)
