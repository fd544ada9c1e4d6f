"""`KitaruClient().executions` and `.waits`."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kitaru.bound import BoundExecution, bind
from kitaru.following import LONGEST_PAUSE_SECONDS, follow
from kitaru.handle import FlowHandle
from kitaru_registry.errors import KitaruConflictError, KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru_registry.executions import ending, families, queue, reading, waits
from kitaru_registry.executions.log_lines import log_file
from kitaru_registry.executions.logs import LogFilter, read_log, within
from kitaru_registry.models import Execution, ExecutionId, LogEntry, Wait
from kitaru_runner.locks import FileLock, execution_lock, is_held

if TYPE_CHECKING:
    from kitaru.client import KitaruClient

SHOWN_KEYS = 10


class Executions:
    """Every id may be given by a unique beginning or end of it."""

    def __init__(self, client: KitaruClient) -> None:
        self._client = client

    def get(self, exec_id: str) -> BoundExecution:
        """With checkpoints, pending waits and result.

        Raises:
            KitaruNotFoundError: there is no such execution.
        """
        found = reading.find_id(self._client.database, exec_id)
        return bind(self._client, self._with_reason(reading.get_execution(self._client.database, found)))

    def status(self, exec_id: ExecutionId) -> str:
        return reading.get_status(self._client.database, exec_id)

    def list(
        self, *, flow: str | None = None, status: str | None = None, version: int | str | None = None,
        since: datetime | None = None, where: Mapping[str, str] | None = None, parent: str | None = None,
        limit: int = 50, page: int | None = None, size: int = 20,
    ) -> builtins.list[BoundExecution]:  # fmt: skip
        """Newest first, without checkpoints; `where` compares inputs and logged metadata as text.

        Args:
            parent: only what this execution has started.
            page, size: the first page is 1; instead of `limit`.

        Raises:
            KitaruUsageError: a page or a size below 1.
        """
        from kitaru_registry.deployments.refs import parse_version

        if page is not None and (page < 1 or size < 1):
            raise KitaruUsageError(f"page {page} of {size} is none", hint="pages are counted from 1, of 1 or more")
        found = reading.list_executions(
            self._client.database,
            project=self._client.project,
            flow=flow,
            status=status,
            version=None if version is None else parse_version(version),
            since=since,
            where=where,
            parent=reading.find_id(self._client.database, parent) if parent else None,
            limit=limit if page is None else size,
            offset=0 if page is None else (page - 1) * size,
        )
        return [bind(self._client, execution) for execution in found]

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
            KitaruNotFoundError: there is no such execution, or it has no such checkpoint.
            KitaruUsageError: no such source, a limit or attempt below 1, a negative offset.
        """
        found = reading.find_id(self._client.database, exec_id)
        wanted = LogFilter(checkpoint=checkpoint, source=source, attempt=attempt)
        entries = read_log(log_file(self._client.home, found), wanted=wanted, offset=offset, limit=limit)
        if checkpoint is not None and not entries:
            self._require_checkpoint(found, checkpoint)
        return entries

    def follow(
        self, exec_id: str, *, checkpoint: str | None = None, source: str | None = None, attempt: int | None = None,
        offset: int = 0, interval: float = LONGEST_PAUSE_SECONDS,
    ) -> Iterator[LogEntry | Execution]:  # fmt: skip
        """Its log from an offset on, live, until it has ended; see `logs`.

        Between two entries comes the execution itself: each time that it has come to a wait, and, as the last, when it
        has ended. The process that executes it may be any of this home.

        Args:
            interval: seconds between two looks while nothing is printed, at most.
        """
        found = reading.find_id(self._client.database, exec_id)
        wanted = LogFilter(checkpoint=checkpoint, source=source, attempt=attempt)
        if offset < 0 or interval <= 0:
            raise KitaruUsageError("a log is followed from an offset of 0 or more, at intervals above 0 seconds")
        return follow(self._client, found, wanted=wanted, offset=offset, interval=interval)

    def pending_waits(self, exec_id: str) -> builtins.list[Wait]:
        """Oldest first."""
        found = reading.find_id(self._client.database, exec_id)
        return builtins.list(reversed(waits.list_waits(self._client.database, exec_id=found)))

    def input(self, exec_id: str, *, value: Any, wait: str | None = None, door: str = "sdk") -> Wait:
        """Answer the only pending wait, or the one of that key or name; the execution goes on by itself.

        An answer that names a wait which is not open yet is kept for it (status `early`).

        Raises:
            KitaruWaitValidationError: the value does not fit; the wait stays open.
            KitaruConflictError: it was answered already.
        """
        client = self._client
        found = reading.find_id(client.database, exec_id)
        open_one = waits.find_wait(client.database, found, wait)
        if open_one is None:
            assert wait is not None
            return waits.answer_early(client.database, found, wait, value, actor=client.actor, door=door)
        if open_one.schema_ is not None:
            from kitaru_registry.schemas import check_answer

            check_answer(open_one.schema_, value)
        answered = waits.answer(client.database, found, open_one.key, value, actor=client.actor, door=door)
        self._set_going(found)
        return answered

    def abort_wait(self, exec_id: str, *, wait: str | None = None, door: str = "sdk") -> Wait:
        """End a wait without an answer: the flow gets KitaruWaitAborted, and fails unless it catches that.

        Raises:
            KitaruNotFoundError: there is no such wait.
            KitaruConflictError: it was answered already.
        """
        client = self._client
        found = reading.find_id(client.database, exec_id)
        open_one = waits.find_wait(client.database, found, wait)
        if open_one is None:
            raise KitaruNotFoundError(f"execution {found} has no wait {wait}", hint=f"kitaru waits list --exec {found}")
        aborted = waits.abort(client.database, found, open_one.key, actor=client.actor, door=door)
        self._set_going(found)
        return aborted

    def _set_going(self, exec_id: ExecutionId) -> None:
        try:
            self._client.runner.set_going(exec_id)
        except KitaruConflictError as error:
            raise KitaruConflictError(f"the answer is recorded, but {error.message}", hint=error.hint) from error

    def resume(self, exec_id: str, *, with_edits: bool = False) -> FlowHandle:
        """See to it that an open execution goes on now.

        Raises:
            KitaruStateError: it has ended, waits for an answer, or a living process executes it.
            KitaruConflictError: its source has changed (a source execution, without `with_edits`).
        """
        client = self._client
        found = self.get(exec_id)
        if self._set_family_going(found, with_edits=with_edits):
            return FlowHandle(client, found.exec_id, found.flow)
        if found.status not in ("pending", "running"):
            raise not_resumable(found)
        if found.status == "running" and is_held(execution_lock(client.home, found.exec_id)):
            process = execution_lock(client.home, found.exec_id).read_text()
            raise KitaruStateError(
                f"execution {found.exec_id} is still running as process {process}",
                hint=f"kitaru executions get {found.exec_id}",
            )
        client.runner.set_going(found.exec_id, with_edits=with_edits)
        return FlowHandle(client, found.exec_id, found.flow)

    def _set_family_going(self, execution: Execution, *, with_edits: bool) -> bool:
        """Let what a waiting execution waits for go on, where that is its children; whether there was any to set."""
        client = self._client
        if execution.status != "waiting" or execution.pending_waits:
            return False
        below = families.open_descendants(client.database, execution.exec_id)
        idle = [
            child
            for child, status in below.items()
            if status in ("pending", "running") and not is_held(execution_lock(client.home, child))
        ]
        # Those that run from source go on together, in one process.
        for child in idle[:1] if execution.kind == "source" else idle:
            client.runner.set_going(child, with_edits=with_edits)
        return bool(idle)

    def cancel(self, exec_id: str, *, reason: str | None = None) -> BoundExecution:
        """End an execution and the open ones that it started: waiting and pending ones at once, running ones within a
        second, however long their checkpoints take. What is recorded stays.

        Raises:
            KitaruConflictError: it has completed or failed.
        """
        client = self._client
        found = reading.find_id(client.database, exec_id)
        family = {found, *families.open_descendants(client.database, found)}
        actor = f"{client.actor}: {reason}" if reason else client.actor
        status = ending.request_cancel(client.database, found, actor=actor)
        self._tell_to_end(family)
        if status == "running":
            settled = FlowHandle(client, found, "").until_settled(10.0)
            if settled.status in ("completed", "failed"):
                raise KitaruConflictError(
                    f"execution {found} {settled.status} before it could be cancelled",
                    hint=f"kitaru executions get {found}",
                )
        return self.get(found)

    def _tell_to_end(self, wanted: set[ExecutionId]) -> None:
        """Let the processes of these look for a request to cancel; those that have lost theirs end here."""
        for exec_id in wanted.intersection(ending.cancel_requests(self._client.database)):
            lock = FileLock.acquire(execution_lock(self._client.home, exec_id))
            if lock is not None:
                seen = queue.candidate(self._client.database, exec_id)
                ending.cancel_owned(self._client.database, seen.row, seen.attempt)
                lock.release()
        self._client.runner.wake()
        here = sys.modules.get("kitaru.running")
        if here is not None:
            here.poke_all()

    def handle(self, exec_id: str) -> FlowHandle:
        """A handle on an execution that was started elsewhere."""
        found = self.get(exec_id)
        return FlowHandle(self._client, found.exec_id, found.flow)

    def _require_checkpoint(self, exec_id: ExecutionId, wanted: str) -> None:
        keys = [call.key for call in reading.get_execution(self._client.database, exec_id).checkpoints]
        if not any(within(key, wanted) for key in keys):
            known = ", ".join(keys[:SHOWN_KEYS]) + (" ..." if len(keys) > SHOWN_KEYS else "")
            raise KitaruNotFoundError(
                f"execution {exec_id} has no checkpoint {wanted}; it has: {known or 'none'}",
                hint=f"kitaru executions get {exec_id}",
            )

    def _with_reason(self, execution: Execution) -> Execution:
        """Say so where an execution is open and nobody works on it."""
        if execution.status not in ("running", "pending", "waiting"):
            return execution
        held = is_held(execution_lock(self._client.home, execution.exec_id))
        reason = execution.status_reason
        if execution.status == "running" and not held:
            reason = f"its process is gone; go on: kitaru executions resume {execution.exec_id}"
        elif execution.status == "waiting" and execution.kind == "source" and not held:
            reason = "its process is gone; an answer starts it again"
        elif execution.status == "pending" and execution.kind == "source" and not held:
            reason = f"{reason or 'not running'}; go on: kitaru executions resume {execution.exec_id}"
        elif execution.status == "pending" and reason is None:
            reason = self._client.runner.why_pending(execution)
        return execution.model_copy(update={"status_reason": reason})


class Waits:
    def __init__(self, client: KitaruClient) -> None:
        self._client = client

    def list(self, *, flow: str | None = None, exec_id: str | None = None) -> builtins.list[Wait]:
        """The pending ones, newest first."""
        found = reading.find_id(self._client.database, exec_id) if exec_id else None
        return waits.list_waits(self._client.database, project=self._client.project, flow=flow, exec_id=found)

    def get(self, exec_id: str, key: str) -> Wait:
        """One wait, answered or not."""
        found = reading.find_id(self._client.database, exec_id)
        for wait in waits.list_waits(self._client.database, exec_id=found, pending_only=False):
            if key in (wait.key, wait.name):
                return wait
        raise KitaruNotFoundError(f"execution {found} has no wait {key}", hint=f"kitaru executions get {found}")

    def answer(self, exec_id: str, key: str, value: Any) -> Wait:
        """See Executions.input."""
        return self._client.executions.input(exec_id, wait=key, value=value)


def not_resumable(execution: Execution) -> KitaruStateError:
    if execution.status == "waiting" and not execution.pending_waits:
        below = [child for child in execution.children if child.status not in ("completed", "failed", "cancelled")]
        what = ", ".join(f"{child.exec_id} of {child.flow}" for child in below) or "a time that has not come"
        return KitaruStateError(
            f"execution {execution.exec_id} waits for {what}", hint=f"kitaru executions get {execution.exec_id}"
        )
    if execution.status == "waiting":
        return KitaruStateError(
            f"execution {execution.exec_id} waits for {', '.join(w.key for w in execution.pending_waits)}",
            hint=f"kitaru executions input {execution.exec_id} --value ...",
        )
    return KitaruStateError(
        f"execution {execution.exec_id} has {execution.status}", hint=f"kitaru executions get {execution.exec_id}"
    )
