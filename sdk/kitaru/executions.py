"""`KitaruClient().executions` and `.waits`."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from kitaru.bound import BoundExecution, bind
from kitaru.door import LARGEST, checked_methods
from kitaru.following import LONGEST_PAUSE_SECONDS, entries, follow
from kitaru.handle import FlowHandle
from kitaru.reasons import brief, current, listed, not_resumable, status_of
from kitaru.working import is_executed, let_work, look_after, owner, set_going
from kitaru_registry.api.artifact_requests import LogQuery, TailLog
from kitaru_registry.api.execution_requests import (
    ExecutionQuery,
    FindExecution,
    GetOutline,
    GetStanding,
)
from kitaru_registry.api.wait_requests import AbortWait, AnswerWait, GetWait, ListWaits
from kitaru_registry.api.work_requests import (
    FireDue,
    ListDeletable,
    ListOpenDescendants,
    ListUndeleted,
    StopWaiting,
)
from kitaru_registry.errors import KitaruConflictError, KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru_registry.models import Deleted, Execution, ExecutionId, LogEntry, Wait
from kitaru_registry.records.answers import Work
from kitaru_runner.host.retention import delete, delete_each

if TYPE_CHECKING:
    from kitaru.bulk import Action, Done
    from kitaru.session import Session
    from kitaru_registry.executions.views import BulkResult, ExecutionDiff, ReplayPlan, RetryPlan


@checked_methods
class Executions:
    """Every id may be given by a unique beginning or end of it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, exec_id: str) -> BoundExecution:
        """With checkpoints, pending waits and result.

        Raises:
            KitaruNotFoundError: there is no such execution.
        """
        return self._bound(current(self._session, exec_id))

    def brief(self, exec_id: ExecutionId) -> BoundExecution:
        """As `get`, without checkpoints and metadata: it costs the same however long the journal is.

        Args:
            exec_id: the whole id.
        """
        return self._bound(brief(self._session, exec_id))

    def status(self, exec_id: ExecutionId) -> str:
        return status_of(self._session, exec_id)

    def list(
        self, *, flow: str | None = None, status: str | None = None, version: int | str | None = None,
        since: datetime | None = None, where: Mapping[str, str] | None = None, parent: str | None = None,
        tag: str | None = None, replay_of: str | None = None, limit: int = 50, page: int | None = None, size: int = 20,
    ) -> builtins.list[BoundExecution]:  # fmt: skip
        """Newest first, without checkpoints; `where` compares inputs and logged metadata as text.

        Args:
            parent: only what this execution has started.
            tag: that the version was found by.
            replay_of: the execution that they are replays of.
            page, size: the first page is 1; instead of `limit`.

        Raises:
            KitaruUsageError: a page or a size below 1.
        """
        from kitaru_registry.deployments.refs import parse_version

        if page is not None and (page < 1 or size < 1):
            raise KitaruUsageError(f"page {page} of {size} is none", hint="pages are counted from 1, of 1 or more")
        query = ExecutionQuery(
            flow=flow, status=status, version=None if version is None else parse_version(version), since=since,
            where=where or {}, parent=parent or None, tag=tag, replay_of=replay_of,
        )  # fmt: skip
        rows, offset = (limit, 0) if page is None else (size, min((page - 1) * size, LARGEST))
        return [self._bound(execution) for execution in listed(self._session, query, limit=rows, offset=offset)]

    def latest(self, *, flow: str | None = None, status: str | None = None) -> BoundExecution:
        """The newest of a flow, or of all, in that status.

        Raises:
            KitaruNotFoundError: there is none.
        """
        found = self.list(flow=flow, status=status, limit=1)
        if not found:
            said = " ".join(filter(None, (status, "execution", f"of {flow}" if flow else None)))
            raise KitaruNotFoundError(f"there is no {said}", hint="kitaru executions list")
        return self.get(found[0].exec_id)

    def logs(
        self, exec_id: str, *, checkpoint: str | None = None, source: str | None = None, attempt: int | None = None,
        limit: int | None = None, offset: int | None = None,
    ) -> builtins.list[LogEntry]:  # fmt: skip
        """What the execution printed, and what its runner remarked, all attempts in the order of writing.

        Args:
            checkpoint: a checkpoint's key, or a name for all of its calls; with those that it called.
            source: `flow` (or `step`) or `runner`.
            limit: at most so many entries: the last ones, or with an offset the first ones from there.
            offset: in bytes; `.offset` of an entry is where reading goes on behind it.

        Raises:
            KitaruNotFoundError: there is no such execution, it has no such checkpoint, or it was deleted.
            KitaruUsageError: no such source, a limit or attempt below 1, a negative offset.
        """
        query = LogQuery(checkpoint, source, attempt)
        if offset is None and limit is not None:
            return self._session.ask(TailLog(exec_id=exec_id, query=query, limit=limit))
        if limit is not None and limit < 1:
            raise KitaruUsageError(f"a limit of {limit} shows nothing", hint="a limit of 1 or more")
        return builtins.list(islice(entries(self._session, exec_id, query, offset or 0), limit))

    def each_log_entry(
        self, exec_id: str, *, checkpoint: str | None = None, source: str | None = None, attempt: int | None = None,
        offset: int = 0,
    ) -> Iterator[LogEntry]:  # fmt: skip
        """As `logs`, one entry after another: a log may be larger than memory."""
        return entries(self._session, exec_id, LogQuery(checkpoint, source, attempt), offset)

    def follow(
        self, exec_id: str, *, checkpoint: str | None = None, source: str | None = None, attempt: int | None = None,
        offset: int = 0, interval: float = LONGEST_PAUSE_SECONDS,
    ) -> Iterator[LogEntry | Execution]:  # fmt: skip
        """Its log from an offset on, live, until it has ended; see `logs`.

        Between two entries comes the execution itself: each time that it has come to a wait, when nobody executes it
        any more (`running` or `pending`, with a `status_reason`), and, as the last, when it has ended: without its
        checkpoints, which `refresh()` reads. The process that executes it may be any of this home.

        Args:
            interval: seconds between two looks while nothing is printed, at most.
        """
        wanted = LogQuery(checkpoint, source, attempt)
        return follow(self._session, exec_id, wanted, offset=offset, interval=interval)

    def pending_waits(self, exec_id: str) -> builtins.list[Wait]:
        """Oldest first."""
        return self._session.ask(ListWaits(exec_id=exec_id))[::-1]

    def input(self, exec_id: str, *, value: Any, wait: str | None = None, door: str = "sdk") -> Wait:
        """Answer the only pending wait, or the one of that key or name; the execution goes on by itself.

        An answer that names a wait which is not open yet is kept for it (status `early`).

        Raises:
            KitaruWaitValidationError: the value does not fit; the wait stays open.
            KitaruConflictError: it was answered already.
        """
        answered = self._session.ask(AnswerWait(exec_id=exec_id, wait=wait, value=value, door=door))
        if answered.wait.status != "early":
            self._let_work(answered.work)
        return answered.wait

    def abort_wait(self, exec_id: str, *, wait: str | None = None, door: str = "sdk") -> Wait:
        """End a wait without an answer: the flow gets KitaruWaitAborted, and fails unless it catches that.

        Raises:
            KitaruNotFoundError: there is no such wait.
            KitaruConflictError: it was answered already.
        """
        aborted = self._session.ask(AbortWait(exec_id=exec_id, wait=wait, door=door))
        self._let_work(aborted.work)
        return aborted.wait

    def _let_work(self, work: Work) -> None:
        try:
            let_work(self._session, work)
        except KitaruConflictError as error:
            raise KitaruConflictError(f"the answer is recorded, but {error.message}", hint=error.hint) from error

    def resume(
        self, exec_id: str, *, with_edits: bool = False, accept: str | None = None, reason: str | None = None
    ) -> FlowHandle:
        """See to it that an open execution goes on now.

        Args:
            with_edits: go on although the files of a source execution have changed.
            accept: of an execution that failed by a divergence: the call that was found, with which it goes on. The
                journal keeps that, and the `reason`, which has to be given. A source execution goes on with its edits.

        Raises:
            KitaruStateError: it has ended, waits for an answer, or a living process executes it.
            KitaruConflictError: its source has changed (a source execution, without `with_edits`), or another call
                than `accept` was found.
        """
        session = self._session
        if accept is not None:
            from kitaru.continuing import accept_divergence

            work = accept_divergence(session, exec_id, accept, reason=reason)
            return FlowHandle(session, work.exec_id, work.flow)
        found: Execution = session.ask(GetOutline(exec_id=exec_id))
        if found.status not in ("pending", "running"):
            found = self._let_times_come(self.get(found.exec_id))
            if self._set_family_going(found, with_edits=with_edits):
                return FlowHandle(session, found.exec_id, found.flow)
            if found.status not in ("pending", "running"):
                raise not_resumable(found)
        if found.status == "running" and is_executed(session, found.exec_id):
            executing = owner(session, found.exec_id)
            raise KitaruStateError(
                f"execution {found.exec_id} is still running as {executing}",
                hint=f"kitaru executions get {found.exec_id}",
            )
        set_going(session, found.exec_id, with_edits=with_edits)
        return FlowHandle(session, found.exec_id, found.flow)

    def retry(self, exec_id: str, *, with_edits: bool = False) -> FlowHandle:
        """Let a failed execution go on at what failed, on the same code; failures that the flow caught are kept.

        Raises:
            KitaruStateError: it has not failed.
            KitaruConflictError: the files of a source execution have changed, and not `with_edits`.
        """
        from kitaru.continuing import retry

        work = retry(self._session, exec_id, with_edits=with_edits)
        return FlowHandle(self._session, work.exec_id, work.flow)

    def plan_retry(self, exec_id: str) -> RetryPlan:
        """What `retry` would execute again, and what it would use; nothing is made."""
        from kitaru.continuing import plan_retry

        return plan_retry(self._session, exec_id)

    def replay(
        self, exec_id: str, *, from_: str | None = None, overrides: Mapping[str, Any] | None = None,
        version: int | str | None = None, only_recorded: bool = False, idempotency_key: str | None = None,
        trust_pickle: bool = False, with_edits: bool = False, **inputs: Any,
    ) -> FlowHandle:  # fmt: skip
        """A new execution that reuses what another one recorded, up to a call, and executes the rest.

        Args:
            from_: the call that executes again: its key; its name, if only one call has it; or `failed`, the first
                failure that reached the top. Everything that was recorded before it is reused.
            overrides: `{"checkpoint.NAME": outcome, "wait.NAME": answer}`; what was recorded after the first of them
                executes again.
            version: of the same flow, instead of the one that recorded.
            only_recorded: stop before the first call that is not recorded: would that version go the same way?
            idempotency_key: the same key and the same replay give the first execution.
            trust_pickle: read pickled values of other code in a home that is not this user's.
            with_edits: replay a source execution although its files have changed.
            inputs: new ones, over the recorded ones.

        Raises:
            KitaruNotFoundError, KitaruConflictError: `from_` or an override fits no call, or several.
            KitaruUsageError: nothing says what is to execute again, or the inputs do not fit.
        """
        from kitaru.replaying import Request, replay

        request = Request(
            from_, overrides or {}, inputs, version, only_recorded, idempotency_key, trust_pickle, with_edits
        )
        return replay(self._session, exec_id, request)

    def plan_replay(
        self, exec_id: str, *, from_: str | None = None, overrides: Mapping[str, Any] | None = None,
        version: int | str | None = None, only_recorded: bool = False, trust_pickle: bool = False, **inputs: Any,
    ) -> ReplayPlan:  # fmt: skip
        """What `replay` with these arguments would reuse and execute; nothing is made."""
        from kitaru.replaying import Request, plan_of, prepare

        request = Request(from_, overrides or {}, inputs, version, only_recorded, trust_pickle=trust_pickle)
        return plan_of(prepare(self._session, exec_id, request))

    def bulk(
        self, action: Action, *, flow: str | None = None, version: int | str | None = None, status: str | None = None,
        since: datetime | None = None, tag: str | None = None, where: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None, done: Done = lambda _: None,
    ) -> builtins.list[BulkResult]:  # fmt: skip
        """Cancel, retry or replay all executions that the query finds, the oldest first; what came of each.

        Args:
            action: `cancel` (open ones, unless `status` says otherwise), `retry` (failed ones), `replay` (ended ones).
            options: of the action: `{"reason": ...}`, `{"with_edits": True}`, or of a replay `{"from_": "failed",
                "version": 4, "inputs": {...}}`. An idempotency key is one for each of them.
            done: is told of each as it is done.

        Raises:
            KitaruUsageError: the action makes no sense for that status, or more than 10,000 fit.
        """
        from kitaru.bulk import Query, act_of, each, find

        found = find(self._session, action, Query(flow, version, status, since, tag, where), options=options)
        act = act_of(self._session, action, options or {})
        return each(self._session, action, found, act=act, done=done)

    def diff(self, a: str, b: str) -> ExecutionDiff:
        """Two executions side by side: calls, values, inputs, results, times; and what differs in their code."""
        from kitaru.differing import diff

        return diff(self._session, a, b)

    def _bound(self, execution: Execution) -> BoundExecution:
        return bind(self._session, self, execution)

    def _let_times_come(self, execution: Execution) -> Execution:
        """The execution, after what it stands at has ended if its time is over: perhaps nobody was there then.

        One that sleeps in a process which is gone is to sleep on in another.
        """
        if execution.status != "waiting":
            return execution
        session, exec_id = self._session, execution.exec_id
        session.ask(FireDue())
        is_left = execution.source is not None and not is_executed(session, exec_id)
        if is_left and session.ask(GetStanding(exec_id=exec_id)).sleeps_until:
            session.ask(StopWaiting(exec_id=exec_id))
        look_after(session, exec_id)
        return self.get(exec_id)

    def _set_family_going(self, execution: Execution, *, with_edits: bool) -> bool:
        """Let what a waiting execution waits for go on, where that is its children; whether there was any to set."""
        session = self._session
        if execution.status != "waiting" or execution.pending_waits:
            return False
        below = session.ask(ListOpenDescendants(exec_id=execution.exec_id))
        idle = [
            child
            for child, status in below.items()
            if status in ("pending", "running") and not is_executed(session, child)
        ]
        # Those that run from source go on together, in one process.
        for child in idle[:1] if execution.kind == "source" else idle:
            set_going(session, child, with_edits=with_edits)
        return bool(idle)

    def cancel(self, exec_id: str, *, reason: str | None = None) -> BoundExecution:
        """End an execution and the open ones that it started: waiting and pending ones at once, running ones within a
        second, however long their checkpoints take. What is recorded stays.

        Raises:
            KitaruConflictError: it has completed or failed.
        """
        from kitaru.continuing import cancel

        return self.get(cancel(self._session, exec_id, reason=reason))

    def delete(self, *exec_ids: str) -> Deleted:
        """Delete what ended executions have left, all or none: values, answers, output. Tombstones stay.

        Raises:
            KitaruStateError: one has not ended, or an open execution needs it; nothing was deleted.
            KitaruNotFoundError: there is no such execution.
            KitaruUsageError: they are more than 200; see `delete_each`.
        """
        found = [self._session.ask(FindExecution(exec_id=exec_id)) for exec_id in exec_ids]
        return delete(self._session.database, found, actor=self._session.actor)

    def delete_each(self, *exec_ids: str) -> Deleted:
        """Delete any number of ended executions, each for itself: what cannot be deleted is `left`, with the reason.

        Raises:
            KitaruNotFoundError: there is no such execution; nothing was deleted.
        """
        found = [self._session.ask(FindExecution(exec_id=exec_id)) for exec_id in exec_ids]
        return delete_each(self._session.database, found, actor=self._session.actor)

    def undeleted(self, *exec_ids: str) -> builtins.list[ExecutionId]:
        """The whole ids of these, without those that were deleted before.

        Raises:
            KitaruStateError, KitaruNotFoundError: `delete` would refuse one.
        """
        return self._session.ask(ListUndeleted(exec_ids=exec_ids))

    def deletable(
        self, *, flow: str | None = None, status: str | None = None, since: datetime | None = None,
        before: datetime | None = None,
    ) -> builtins.list[ExecutionId]:  # fmt: skip
        """Ended executions of the project, oldest first, that `delete` would take.

        Args:
            since, before: of their end.

        Raises:
            KitaruUsageError: a status that is no end.
        """
        return self._session.ask(
            ListDeletable(project=self._session.project, flow=flow, status=status, since=since, before=before)
        )

    def handle(self, exec_id: str) -> FlowHandle:
        """A handle on an execution that was started elsewhere."""
        found = self._session.ask(GetOutline(exec_id=exec_id))
        return FlowHandle(self._session, found.exec_id, found.flow)


@checked_methods
class Waits:
    def __init__(self, session: Session) -> None:
        self._session = session

    def list(self, *, flow: str | None = None, exec_id: str | None = None) -> builtins.list[Wait]:
        """The pending ones, newest first."""
        return self._session.ask(ListWaits(project=self._session.project, flow=flow, exec_id=exec_id or None))

    def get(self, exec_id: str, key: str) -> Wait:
        """One wait, answered or not."""
        return self._session.ask(GetWait(exec_id=exec_id, key=key))

    def answer(self, exec_id: str, key: str, value: Any) -> Wait:
        """See Executions.input."""
        return Executions(self._session).input(exec_id, wait=key, value=value)
