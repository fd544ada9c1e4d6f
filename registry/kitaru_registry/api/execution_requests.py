"""Executions: how they stand, and what they gave. Every id may be a unique beginning or end of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kitaru_registry.api.request import Request
from kitaru_registry.models import Execution, ExecutionId
from kitaru_registry.records.answers import CallPage, EncodedValue, RunningExecution, Standing


@dataclass(frozen=True)
class ExecutionQuery:
    """Which executions of a project; without anything, all of them."""

    flow: str | None = None
    status: str | None = None
    version: int | None = None
    tag: str | None = None
    """That the version was found by."""
    since: datetime | None = None
    """Of their beginning."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Names in inputs or logged metadata to values, compared as text; `a.b` reaches into a mapping."""
    parent: str | None = None
    """Only what this execution started."""
    replay_of: str | None = None
    """The execution that they are replays of."""


@dataclass(frozen=True, kw_only=True)
class FindExecution(Request[ExecutionId]):
    """The whole id.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
        KitaruUsageError: it can be no id.
    """

    exec_id: str


@dataclass(frozen=True, kw_only=True)
class GetStatus(Request[str]):
    """pending, running, waiting, completed, failed or cancelled. To be asked again and again: it costs one row.

    Raises:
        KitaruNotFoundError: there is none.
    """

    exec_id: ExecutionId
    """Whole."""


@dataclass(frozen=True, kw_only=True)
class GetOutline(Request[Execution]):
    """The execution with its children, without checkpoints, waits and result: as cheap, however long its journal is.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
    """

    exec_id: str


@dataclass(frozen=True, kw_only=True)
class GetBrief(Request[Execution]):
    """The outline with pending waits and result. Nothing of its journal is read, which may be very long.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
    """

    exec_id: str


@dataclass(frozen=True, kw_only=True)
class GetExecution(Request[Execution]):
    """The execution with its checkpoints, pending waits and result.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
    """

    exec_id: str


@dataclass(frozen=True, kw_only=True)
class ListCalls(Request[CallPage]):
    """Its checkpoints in recorded order, a page at a time.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
        KitaruUsageError: a limit below 1.
    """

    exec_id: str
    after: str | None = None
    """`next` of the page before."""
    limit: int = 1000


@dataclass(frozen=True, kw_only=True)
class GetResult(Request[EncodedValue]):
    """The result of a completed execution, as it was encoded.

    Raises:
        KitaruNotFoundError: there is none, or its values were deleted.
        KitaruConflictError: several fit.
        KitaruStateError: it has no result.
    """

    exec_id: str


@dataclass(frozen=True, kw_only=True)
class GetFailure(Request[dict[str, Any] | None]):
    """How a failed execution ended, as its attempt described it: class, state and cause of the exception.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
    """

    exec_id: str


@dataclass(frozen=True, kw_only=True)
class GetWarnings(Request[tuple[str, ...]]):
    """What its code did otherwise than its journal has it, so far.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
    """

    exec_id: str


@dataclass(frozen=True, kw_only=True)
class GetStanding(Request[Standing]):
    """What keeps an open execution from going on.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
    """

    exec_id: str


@dataclass(frozen=True, kw_only=True)
class ListExecutions(Request[list[Execution]]):
    """Newest first, without checkpoints.

    Raises:
        KitaruUsageError: no such status, or a limit below 1.
        KitaruNotFoundError: a parent, or an original, that there is not.
        KitaruConflictError: several fit its id.
    """

    project: str
    query: ExecutionQuery = ExecutionQuery()
    limit: int = 50
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class ListRunning(Request[list[RunningExecution]]):
    """What somebody executes, as the record says; of all projects, where none is named."""

    project: str | None = None
