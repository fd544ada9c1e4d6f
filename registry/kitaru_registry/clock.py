"""What time it is: the machine's time, or that of a test which owns the clock (kitaru.testing)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from datetime import datetime

OWNED_LOOK_SECONDS = 0.005
"""How often a thread that waits for a time looks at a clock that a test owns."""


class Clock:
    """Where `now_us` reads. One for the process."""

    def __init__(self) -> None:
        self.read: Callable[[], int] = machine_us
        self.offset_us = 0
        """How far ahead of this machine's clock that of the record is, which several machines share."""
        self.listeners: list[Callable[[], None]] = []
        """Called after a test has moved the clock."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Until the event is set, or so much time has passed by this clock; whether it is set."""
        if self.read is machine_us:
            return event.wait(seconds)
        due_us = self.read() + int(seconds * 1_000_000)
        while not event.is_set() and self.read() < due_us:
            event.wait(OWNED_LOOK_SECONDS)
        return event.is_set()

    def moved(self) -> None:
        for listener in tuple(self.listeners):
            listener()


def machine_us() -> int:
    return time.time_ns() // 1000


clock = Clock()


def now_us() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000 + clock.offset_us if clock.read is machine_us else clock.read()


def as_microseconds(moment: datetime) -> int:
    """Since 1970 UTC. A naive moment is of this machine's zone; where none can say so early or late a time, of UTC."""
    from datetime import UTC

    try:
        return int(moment.timestamp() * 1_000_000)
    except (OverflowError, ValueError, OSError):
        return int(moment.replace(tzinfo=UTC).timestamp() * 1_000_000)


@overload
def as_datetime(microseconds: int) -> datetime: ...
@overload
def as_datetime(microseconds: None) -> None: ...
@overload
def as_datetime(microseconds: Any) -> datetime | None: ...
def as_datetime(microseconds: int | None) -> datetime | None:
    from datetime import UTC, datetime

    return None if microseconds is None else datetime.fromtimestamp(microseconds / 1_000_000, UTC)
