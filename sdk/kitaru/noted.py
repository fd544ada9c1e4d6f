"""`now`, `random`, `uuid4`: plain values that are the same in every attempt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from kitaru_registry.clock import now_us
from kitaru_runner.engine.checkpoints.notes import note
from kitaru_runner.engine.core.calls import this_branch

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

T = TypeVar("T")


def now() -> datetime:
    """The time, aware and in UTC: in a flow's body the one that was noted when this call was first made.

    Inside a checkpoint, and outside of any flow, the time that it is.
    """
    from datetime import UTC, datetime

    return noted("now", lambda: datetime.fromtimestamp(now_us() / 1_000_000, UTC))


def random() -> float:
    """A number from 0 up to 1, noted like `now`."""
    from random import random as draw

    return noted("random", draw)


def uuid4() -> UUID:
    """A random UUID, noted like `now`."""
    from uuid import uuid4 as draw

    return noted("uuid4", draw)


def noted(name: str, make: Callable[[], T]) -> T:
    branch = this_branch()
    if branch is None or branch.call is not None:
        return make()
    value: T = note(branch, name, make)
    return value
