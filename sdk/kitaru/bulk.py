"""The same to many executions: which ones a query finds, and what came of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from kitaru.continuing import cancel, retry
from kitaru.handle import FlowHandle
from kitaru.reasons import current, listed, status_of
from kitaru_registry.api.execution_requests import ExecutionQuery
from kitaru_registry.deployments.refs import parse_version
from kitaru_registry.errors import KitaruError, KitaruUsageError
from kitaru_registry.executions.replaying import FAILED
from kitaru_registry.executions.views import BulkResult
from kitaru_registry.models import Execution, ExecutionId

if TYPE_CHECKING:
    from kitaru.session import Session
    from kitaru_registry.records.answers import Work

Action = Literal["cancel", "retry", "replay"]

Act = Callable[[ExecutionId], "Execution | FlowHandle"]
Done = Callable[[BulkResult], None]

AT_MOST = 10_000
"""So many executions in one go."""

STATUSES: Mapping[Action, tuple[str, ...]] = {
    "cancel": ("pending", "running", "waiting"),
    "retry": ("failed",),
    "replay": ("completed", "failed", "cancelled"),
}
"""Which executions an action is meant for, where the query does not say."""


OPTIONS: Mapping[Action, frozenset[str]] = {
    "cancel": frozenset({"reason"}),
    "retry": frozenset({"with_edits"}),
    "replay": frozenset(
        {
            "from_", "overrides", "inputs", "version", "only_recorded", "idempotency_key", "trust_pickle", "with_edits",
        }
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Query:
    flow: str | None = None
    version: int | str | None = None
    status: str | None = None
    since: datetime | None = None
    tag: str | None = None
    where: Mapping[str, str] | None = None


def find(
    session: Session, action: Action, query: Query, *, options: Mapping[str, Any] | None = None
) -> list[Execution]:
    """What the action, with these options, would be done to, oldest first.

    Raises:
        KitaruUsageError: there is no such action, it makes no sense for the status, or more than 10,000 fit.
    """
    if action not in STATUSES:
        raise KitaruUsageError(f"there is no action {action!r}", hint=f"one of {', '.join(STATUSES)}")
    fitting = ("failed",) if (options or {}).get("from_") == FAILED else STATUSES[action]
    if query.status is not None and query.status not in fitting:
        raise KitaruUsageError(
            f"what is {query.status} cannot be the object of a {action}", hint=f"--status {' or '.join(fitting)}"
        )
    asked = ExecutionQuery(
        flow=query.flow, version=None if query.version is None else parse_version(query.version), since=query.since,
        tag=query.tag, where=query.where or {},
    )  # fmt: skip
    found = [
        execution
        for status in ([query.status] if query.status else fitting)
        for execution in listed(session, replace(asked, status=status), limit=AT_MOST + 1)
    ]
    if len(found) > AT_MOST:
        raise KitaruUsageError(f"more than {AT_MOST:,} executions fit", hint="narrow it down: --since, --where")
    return sorted(found, key=lambda execution: execution.exec_id)


def each(
    session: Session, action: Action, executions: Sequence[Execution], *, act: Act, done: Done = lambda _: None
) -> list[BulkResult]:
    """Do it to one after another, whatever comes of each.

    Args:
        act: does it to the execution of that id.
        done: is told of each as it is done.
    """
    results = []
    for execution in executions:
        result = one(session, action, execution, act)
        done(result)
        results.append(result)
    return results


def one(session: Session, action: Action, execution: Execution, act: Act) -> BulkResult:
    said = {"exec_id": execution.exec_id, "flow": execution.flow, "action": action}
    try:
        made = act(execution.exec_id)
    except KitaruError as error:
        return BulkResult(**said, ok=False, status=status_of(session, execution.exec_id), message=error.message)
    return BulkResult(
        **said, ok=True, status=made.status, new_exec_id=made.exec_id if made.exec_id != execution.exec_id else None
    )


def act_of(session: Session, action: Action, options: Mapping[str, Any]) -> Act:
    """What does the action to one execution.

    Args:
        options: of `executions.cancel` or `.retry`; of a replay, the fields of `replaying.Request`.

    Raises:
        KitaruUsageError: an option that the action does not have; of a replay, nothing says where it begins.
    """
    unknown = sorted(set(options) - OPTIONS[action])
    if unknown:
        known = ", ".join(sorted(OPTIONS[action]))
        raise KitaruUsageError(f"{action} has no option {', '.join(unknown)}", hint=f"it has {known}")
    if action == "replay":
        return replay_of_each(session, options)
    acts: Mapping[Action, Act] = {
        "cancel": lambda exec_id: current(session, cancel(session, exec_id, **options)),
        "retry": lambda exec_id: handle_of(session, retry(session, exec_id, **options)),
    }
    return acts[action]


def handle_of(session: Session, work: Work) -> FlowHandle:
    return FlowHandle(session, work.exec_id, work.flow)


def replay_of_each(session: Session, options: Mapping[str, Any]) -> Act:
    from kitaru.replaying import Request, replay, require_beginning

    request = Request(**options)
    require_beginning(request, "they")
    key = request.idempotency_key

    def act(exec_id: ExecutionId) -> FlowHandle:
        # A key stands for one execution, and each of these is replayed as one.
        return replay(session, exec_id, replace(request, idempotency_key=f"{key}/{exec_id}") if key else request)

    return act
