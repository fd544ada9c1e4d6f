"""What executions wait for, and the answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kitaru_registry.api.request import Request
from kitaru_registry.models import Wait
from kitaru_registry.records.answers import Answered


@dataclass(frozen=True, kw_only=True)
class ListWaits(Request[list[Wait]]):
    """Waits, newest first; only those of open executions that nobody has answered, unless told otherwise.

    Raises:
        KitaruNotFoundError: there is no such execution.
        KitaruConflictError: several fit its id.
    """

    project: str | None = None
    """None: of all of them."""
    flow: str | None = None
    exec_id: str | None = None
    pending_only: bool = True


@dataclass(frozen=True, kw_only=True)
class GetWait(Request[Wait]):
    """One wait, answered or not.

    Raises:
        KitaruNotFoundError: no such execution or wait.
        KitaruConflictError: several fit the execution's id.
    """

    exec_id: str
    key: str
    """Or its name."""


@dataclass(frozen=True, kw_only=True)
class AnswerWait(Request[Answered]):
    """The wait has its answer, and its execution may go on. One that is not open yet gets it when it is (`early`).

    Raises:
        KitaruNotFoundError: no such execution; or no wait is named, and none is pending; or one nearly has that name.
        KitaruConflictError: several fit, or what fits was answered already.
        KitaruWaitValidationError: the value does not fit; the wait stays open.
    """

    exec_id: str
    value: Any
    """JSON."""
    wait: str | None = None
    """Its key or name; None: the only pending one."""
    door: str = "sdk"
    """By which the answer came: `cli`, `sdk`, `terminal`."""


@dataclass(frozen=True, kw_only=True)
class AbortWait(Request[Answered]):
    """The wait has ended without an answer: its flow gets KitaruWaitAborted.

    Raises:
        KitaruNotFoundError: no such execution or wait.
        KitaruConflictError: several fit, or it was answered already.
    """

    exec_id: str
    wait: str | None = None
    """Its key or name; None: the only pending one."""
    door: str = "sdk"
