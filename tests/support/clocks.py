"""A clock that a test owns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from attempts import TestExecution

from kitaru_registry.clock import clock, machine_us
from kitaru_registry.executions import waits


class OwnClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.at_us = machine_us()

    def forward(self, seconds: float) -> None:
        self.at_us += int(seconds * 1_000_000)
        clock.moved()

    def pass_for(self, execution: TestExecution, seconds: float) -> None:
        """Let the time pass, and end what is due then, as any runner of the home does."""
        self.forward(seconds)
        waits.fire_due(execution.database)


@contextmanager
def own_clock() -> Iterator[OwnClock]:
    own = OwnClock()
    clock.read = lambda: own.at_us
    try:
        yield own
    finally:
        clock.read = machine_us
