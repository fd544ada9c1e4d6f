"""The states of an execution, and the only ways between them."""

from __future__ import annotations

from typing import Literal, get_args

Status = Literal["pending", "running", "waiting", "completed", "failed", "cancelled"]

STATUSES: tuple[Status, ...] = get_args(Status)
ENDED: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})
OPEN: frozenset[Status] = frozenset(STATUSES) - ENDED

TRANSITIONS: frozenset[tuple[Status, Status]] = frozenset(
    {
        ("pending", "running"),  # claimed
        ("running", "running"),  # taken over: the attempt rises
        ("running", "waiting"),  # every branch stands at a wait
        ("waiting", "pending"),  # answered
        ("running", "pending"),  # its process ended; to be claimed again after a pause
        ("running", "completed"),
        ("running", "failed"),
        ("running", "cancelled"),
        ("pending", "cancelled"),
        ("waiting", "cancelled"),
        ("pending", "failed"),  # its time to finish was over
        ("waiting", "failed"),
        ("failed", "pending"),  # retried, or a divergence accepted
    }
)


def may_become(before: Status, after: Status) -> bool:
    return (before, after) in TRANSITIONS


def sources_of(after: Status) -> tuple[Status, ...]:
    """The states from which `after` can be reached: the WHERE of every update that sets it."""
    return tuple(status for status in STATUSES if may_become(status, after))
