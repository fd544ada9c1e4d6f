"""How the threads of an attempt take turns, and how its short pauses pass: as the machine has it, or as a test says.

Every place where one of them blocks, or where the order of threads matters, asks its pace. The machine's own
does nothing there but what a thread would do anyway; `kitaru.testing` puts one in its place that lets one thread go on
at a time, in an order that follows from a seed.

Standard library only: every child imports this.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kitaru_registry.clock import clock
from kitaru_runner.engine.core.blocking import stands

if TYPE_CHECKING:
    import asyncio

    from kitaru_runner.engine.core.interrupts import Executing


class Pace:
    """The machine's: threads run as they come, and time passes by itself."""

    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    """Makes the event loop of an `async def` flow; None: asyncio's own."""

    def start(self, run: Callable[[], None], name: str, *, daemon: bool = False) -> threading.Thread:
        thread = threading.Thread(target=run, name=name, daemon=daemon)
        thread.start()
        return thread

    def start_unawaited(self, run: Callable[[], None], name: str) -> None:
        """Start a thread that may begin after this has returned; or never, where the process ends before."""
        UnawaitedThread(target=run, name=name).start()

    def point(self) -> None:
        """Another thread may go on before this one does."""

    def until(self, there: Callable[[], bool], timeout: float | None = None) -> float | None:
        """This thread is about to block until that holds, at most so long. The time-out to block with.

        Never called under a lock that others need.
        """
        return timeout

    def wait(self, condition: threading.Condition, there: Callable[[], bool], timeout: float | None = None) -> None:
        """Wait on a condition that is held; the caller looks again whether it is `there`."""
        condition.wait(timeout)

    def monotonic(self) -> float:
        """Seconds, to measure how long something takes."""
        return time.monotonic()

    def pause(self, seconds: float, ended: threading.Event) -> bool:
        """Wait until the event is set, at most so long; whether it is set."""
        return clock.wait(ended, seconds)

    def interrupt(self, thread: threading.Thread, executing: Executing) -> None:
        """Raise TimeoutError in a thread of this process that executes user code, at its next instruction."""
        if thread.ident is not None:
            executing.strike_one(thread.ident, TimeoutError)

    def noted(self, name: str, make: Callable[[], Any]) -> Any:
        """A value that a flow's body notes (now, random, uuid4), where it is not recorded yet."""
        return make()

    def stands(self, thread: int) -> bool:
        """Whether a thread waits for another, and for no short time."""
        return stands(thread)

    def later(self, loop: asyncio.AbstractEventLoop, seconds: float, call: Callable[[], None]) -> None:
        """Call on the loop after it had so much time to come to rest."""
        loop.call_later(seconds, call)


class UnawaitedThread(threading.Thread):
    """A thread whose `start` does not wait for it to begin.

    `Thread.start` does, and gives the interpreter to and fro for it: of a hundred threads that costs more than all the
    rest of their starts.
    """

    def __init__(self, *, target: Callable[[], None], name: str) -> None:
        super().__init__(target=target, name=name, daemon=False)
        # As CPython 3.11 to 3.14 have it; where another does not, `start` waits.
        self._started = Unawaited()


class Unawaited(threading.Event):
    """Set when the thread has begun; nobody waits for that."""

    def wait(self, timeout: float | None = None) -> bool:
        return True


MACHINE = Pace()
