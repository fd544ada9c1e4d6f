"""The event loops of a tested flow: by the clock of the test, and with turns among the threads of the attempt."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor
from random import Random
from typing import Any, TypeVar, TypeVarTuple, Unpack

from kitaru.testing.lines import Turns
from kitaru_registry.clock import now_us
from kitaru_runner.engine.core.calls import current
from kitaru_runner.values.failures import ProcessEnded

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LONGEST_REST_SECONDS = 6.0
"""How long a loop at rest is asked to look again before time passes: longer than the engine's own patience."""

OUTSIDE_SECONDS = 0.01
"""How long a loop blocks, in the machine's time, for a thread, a process or a socket before it looks at the rest."""

QUIET_SECONDS = 1.0
"""How long a socket may be quiet, in the machine's time, before the test's passes: one that is kept open is quiet."""


class SeededLoop(asyncio.SelectorEventLoop):
    """An event loop by the clock of the test, on which a checkpoint's body takes as long as the seed says.

    The flow's own tasks go on as asyncio has them: their order follows from what they are given.
    """

    _ready: Any
    _selector: Any

    def __init__(self, schedule: Turns, random: Random) -> None:
        self._random = random
        self.at_rest: list[tuple[float, Callable[[], None]]] = []
        """To be called once nothing is ready, as if so many seconds had passed."""
        super().__init__(TurnSelector(self))
        self._schedule = schedule
        self._began_us = now_us()
        self._clock_resolution = 1e-6
        self._rested_seconds = 0.0
        self._looks_again = False
        self._postponed: list[Any] = []
        self._given: list[tuple[asyncio.Future[Any], Executor]] = []
        self._processes: list[asyncio.SubprocessTransport] = []
        self._heard_at = time.monotonic()

    def time(self) -> float:
        return (now_us() - self._began_us) / 1_000_000

    def _run_once(self) -> None:
        if not self._schedule.ended:
            self._postpone()
        super()._run_once()  # type: ignore[misc]  # not in typeshed

    def _postpone(self) -> None:
        """Hold back some of the steps within checkpoints, and let others go on that were held back."""
        ready = list(self._ready)
        self._ready.clear()
        back = [handle for handle in self._postponed if self._random.random() < 0.5]
        self._postponed = [handle for handle in self._postponed if handle not in back]
        for handle in ready:
            if is_in_checkpoint(handle) and self._random.random() < 0.5:
                self._postponed.append(handle)
            else:
                self._ready.append(handle)
        self._ready.extend(back)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        if executor is not None:
            future = super().run_in_executor(executor, func, *args)
            self._given.append((future, executor))
            return future
        return asyncio.wrap_future(self._in_turn(lambda: func(*args)), loop=self)

    def _in_turn(self, call: Callable[[], T]) -> concurrent.futures.Future[T]:
        """Where `asyncio.to_thread` runs: in a thread that takes turns too."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                value = call()
            except ProcessEnded:
                raise
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(value)

        self._schedule.start(run, "executor", daemon=True)
        return future

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        transport, protocol = await super().subprocess_exec(*args, **kwargs)
        self._processes.append(transport)
        return transport, protocol

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        transport, protocol = await super().subprocess_shell(*args, **kwargs)
        self._processes.append(transport)
        return transport, protocol

    @property
    def _sockets(self) -> int:
        # The loop itself has one, to be woken by.
        return len(self._selector.get_map()) - 1

    def _is_busy_outside(self) -> bool:
        """Whether threads, processes or sockets of the flow's are at work, for which no time of the test's passes."""
        self._given = [(future, executor) for future, executor in self._given if not future.done()]
        if not all(self._schedule.turns_all(getattr(executor, "_threads", (None,))) for _, executor in self._given):
            return True
        if any(process.get_returncode() is None for process in self._processes):
            return True
        return self._sockets > 0 and time.monotonic() - self._heard_at < QUIET_SECONDS

    def heard(self, events: int) -> None:
        """So many sockets have something to say; its own, too."""
        if events:
            self._heard_at = time.monotonic()

    def stand(self, timeout: float | None) -> float:
        """Nothing is ready: let the others go on, until something is. Seconds of the machine's time to block then."""
        if timeout == 0:
            if not self._looks_again:
                self._rested_seconds = 0.0
            self._looks_again = False
        elif self.at_rest and self._rested_seconds < min(LONGEST_REST_SECONDS, timeout or LONGEST_REST_SECONDS):
            self._looks_again = True
            calls, self.at_rest = self.at_rest, []
            for seconds, call in calls:
                self._rested_seconds += seconds
                self.call_soon(call)
        elif self._postponed:
            self._ready.append(self._postponed.pop(self._random.randrange(len(self._postponed))))
        else:
            self._rested_seconds = 0.0
            if self._is_busy_outside():
                self._schedule.point()
                return OUTSIDE_SECONDS
            outside = self._sockets > 0
            self._schedule.until_from_outside(lambda: bool(self._ready), timeout, outside=outside)
            return OUTSIDE_SECONDS if outside and not self._ready else 0.0
        return 0.0

    def close(self) -> None:
        if self._schedule.ended:
            # What a process that ends has not begun yet is nothing to warn of.
            for task in asyncio.all_tasks(self):
                coroutine = task.get_coro()
                if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                    coroutine.close()
        super().close()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        # Tasks of a process that has ended are just gone.
        if not self._schedule.ended:
            super().call_exception_handler(context)


def is_in_checkpoint(handle: Any) -> bool:
    if not isinstance(getattr(handle._callback, "__self__", None), asyncio.Task):
        return False
    branch = handle._context.get(current)
    return branch is not None and branch.call is not None


class TurnSelector(selectors.DefaultSelector):
    """What a loop waits with."""

    def __init__(self, loop: SeededLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(self._loop.stand(timeout))
        self._loop.heard(len(found))
        return found
