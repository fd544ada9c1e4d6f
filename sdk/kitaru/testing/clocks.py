"""A clock that a test owns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from kitaru_registry.clock import clock as process_clock
from kitaru_registry.errors import KitaruStateError, KitaruUsageError

START = datetime(2030, 1, 1, tzinfo=UTC)


class Clock:
    """What time it is for Kitaru in this process, while it is entered. It stands still unless a test moves it.

    Args:
        start: an aware datetime.
    """

    def __init__(self, start: datetime = START) -> None:
        self._now_us = as_us(start)
        self._before = process_clock.read

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self._now_us / 1_000_000, UTC)

    def advance(
        self, by: timedelta | float = 0, /, *, seconds: float = 0, minutes: float = 0, hours: float = 0,
        days: float = 0, weeks: float = 0,
    ) -> datetime:  # fmt: skip
        """Let so much time pass. What was due in it happens now; the new time.

        Args:
            by: seconds, or a timedelta, as `sleep` takes them.
        """
        time = by if isinstance(by, timedelta) else timedelta(seconds=by)
        parts = timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days, weeks=weeks)
        return self.set(self.now + time + parts)

    def set(self, moment: datetime) -> datetime:
        """Go to a moment, which is not before the present one.

        Raises:
            KitaruUsageError: it is, or it has no time zone.
        """
        moved_to = as_us(moment)
        if moved_to < self._now_us:
            raise KitaruUsageError(
                f"the clock stands at {self.now.isoformat()}, and {moment.isoformat()} is before that",
                hint="a clock goes forward: begin earlier, with Clock(start=...)",
            )
        self.move_to(moved_to)
        return self.now

    def move_to(self, now_us: int) -> None:
        """As `set`, in microseconds since 1970 UTC; a time that has passed changes nothing."""
        self._now_us = max(self._now_us, now_us)
        if process_clock.read == self.read:
            process_clock.moved()

    def read(self) -> int:
        return self._now_us

    def __enter__(self) -> Self:
        if getattr(process_clock.read, "__self__", None) is not None:
            raise KitaruStateError("another test clock is in use", hint="leave its with block first")
        self._before, process_clock.read = process_clock.read, self.read
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process_clock.read = self._before
        process_clock.moved()


@contextmanager
def clock_in_use() -> Iterator[Clock]:
    """The clock that a test has entered; without one, one of its own."""
    entered = getattr(process_clock.read, "__self__", None)
    if isinstance(entered, Clock):
        yield entered
        return
    with Clock() as clock:
        yield clock


def as_us(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise KitaruUsageError(
            f"{moment.isoformat()} has no time zone", hint="write datetime(..., tzinfo=timezone.utc)"
        )
    return round(moment.timestamp() * 1_000_000)
