"""What time it is: the machine's time, or that of a test which owns the clock (kitaru.testing)."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Where `now_us` reads. One for the process."""

    def __init__(self) -> None:
        self.read: Callable[[], int] = machine_us
        self.listeners: list[Callable[[], None]] = []
        """Called after a test has moved the clock."""

    def moved(self) -> None:
        for listener in tuple(self.listeners):
            listener()


def machine_us() -> int:
    return time.time_ns() // 1000


clock = Clock()


def now_us() -> int:
    """Microseconds since 1970 UTC."""
    return clock.read()
