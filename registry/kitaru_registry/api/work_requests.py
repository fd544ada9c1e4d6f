"""What is done to executions, and what keeps them going; every id may be a unique beginning or end of one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kitaru_registry.api.request import Request
from kitaru_registry.executions.views import RetryPlan
from kitaru_registry.models import DoctorCheck, ExecutionId
from kitaru_registry.records.answers import Cancelled, Overview, Root, Work


@dataclass(frozen=True, kw_only=True)
class MakeDue(Request[Work]):
    """A pending execution may be claimed now, whatever pause it was given; any other is as it was.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
    """

    exec_id: str


@dataclass(frozen=True, kw_only=True)
class StopWaiting(Request[Work]):
    """A waiting execution whose process is gone may be claimed: what it stands at may have no process either.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
    """

    exec_id: str


@dataclass(frozen=True, kw_only=True)
class FireDue(Request[int]):
    """Waits and sleeps whose time has come have ended, and their executions may go on; how many there were."""


@dataclass(frozen=True, kw_only=True)
class GetRoot(Request[Root]):
    """The topmost open source execution that this one is a child of, through open source executions; or itself.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
    """

    exec_id: str


@dataclass(frozen=True, kw_only=True)
class ListOpenDescendants(Request[dict[ExecutionId, str]]):
    """Id to status of the open executions that this one started, and of those that they started, parents first.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
    """

    exec_id: str


@dataclass(frozen=True, kw_only=True)
class GetNextDue(Request[datetime | None]):
    """When there is something to do next for a runner: an execution to claim, or a time that comes. None: never."""


@dataclass(frozen=True, kw_only=True)
class SayCouldNotBegin(Request[None]):
    """A pending execution says why nobody executes it, until somebody sets it going again."""

    exec_id: ExecutionId
    """Whole."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class CancelExecution(Request[Cancelled]):
    """It and the open ones that it started have ended, or are to: the process of a running one has to hear of it.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: it has completed or failed; or several fit.
    """

    exec_id: str
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class RetryExecution(Request[Work]):
    """A failed execution may go on at what failed, on the same code; failures that the flow caught are kept.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
        KitaruStateError: it has not failed, or its values were deleted.
    """

    exec_id: str


@dataclass(frozen=True, kw_only=True)
class PlanRetry(Request[RetryPlan]):
    """What a retry would execute again, and what it would use; nothing is made.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
        KitaruStateError: it has not failed, or its values were deleted.
    """

    exec_id: str


@dataclass(frozen=True, kw_only=True)
class AcceptDivergence(Request[Work]):
    """An execution that failed by a divergence may go on with the call that was found; the journal says so.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: it was another call that was found; or several fit.
        KitaruStateError: it did not end at a divergence, or came from no file, so that nobody can start it again.
        KitaruUsageError: no reason is given.
    """

    exec_id: str
    key: str
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class ListUndeleted(Request[list[ExecutionId]]):
    """The whole ids of these, without those that were deleted before.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
        KitaruStateError: one has not ended, or an open execution needs it.
    """

    exec_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ListDeletable(Request[list[ExecutionId]]):
    """Ended executions of a project that can be deleted, oldest first: not those that an open one needs.

    Raises:
        KitaruUsageError: no such status, or not one of an end.
    """

    project: str
    flow: str | None = None
    status: str | None = None
    since: datetime | None = None
    """Of their end."""
    before: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class RememberRetention(Request[None]):
    """The home's runner keeps a project's ended executions for so long.

    Raises:
        KitaruBackendError: the home cannot be written.
    """

    project: str
    seconds: int | None
    """None: for ever."""


@dataclass(frozen=True, kw_only=True)
class GetOverview(Request[Overview]):
    """What a project has, what is open of it, and what nobody has let go on."""

    project: str


@dataclass(frozen=True, kw_only=True)
class ListFaults(Request[dict[str, list[ExecutionId]]]):
    """What the machine lacks, to the pending executions of all projects that wait for it."""


@dataclass(frozen=True, kw_only=True)
class CheckDatabase(Request[DoctorCheck]):
    """Whether the record's database is whole."""
