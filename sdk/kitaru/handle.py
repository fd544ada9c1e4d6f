"""What `.run()` and `.invoke()` give: an execution to ask, to wait for, to end."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from kitaru.door import checked, checked_methods
from kitaru_registry.errors import (
    KitaruDivergenceError,
    KitaruExecutionError,
    KitaruNotFinishedError,
    KitaruUserCodeError,
)

if TYPE_CHECKING:
    from kitaru.session import Session
    from kitaru_registry.models import Execution, ExecutionId, LogEntry


@checked_methods
class FlowHandle:
    """An execution. It outlives the handle, and this process where it was deployed."""

    @checked
    def __init__(self, client: Session, exec_id: ExecutionId, flow: str, *, created: bool = True) -> None:
        self._session = client
        self.exec_id = exec_id
        self.flow = flow
        self.created = created
        """False where an idempotency key gave an execution that was there."""

    def __repr__(self) -> str:
        return f"<FlowHandle {self.flow} {self.exec_id}>"

    @property
    def status(self) -> str:
        """As of now: pending, running, waiting, completed, failed or cancelled."""
        from kitaru_registry.api.execution_requests import GetStatus

        return self._session.ask(GetStatus(exec_id=self.exec_id))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What its code did otherwise than its journal has it, so far. A completed execution should have none."""
        from kitaru_registry.api.execution_requests import GetWarnings

        return self._session.ask(GetWarnings(exec_id=self.exec_id))

    def wait(self, timeout: float | None = None) -> Any:
        """The flow's result, once it has ended; blocks through waits, and goes on when their answers come.

        Args:
            timeout: seconds.

        Raises:
            KitaruUserCodeError: the flow raised; its exception is the cause where its class can be had here.
            KitaruNotFinishedError: the time-out was over first; the execution goes on.
            KitaruStateError: its process is gone, and nobody goes on with it.
        """
        from kitaru.watching import until
        from kitaru_registry.records.states import ENDED

        if until(self._session, self.exec_id, ENDED, timeout) not in ENDED:
            raise self._unfinished(f"after {timeout} s")
        return self.get()

    def __await__(self) -> Generator[Any, None, Any]:
        """`wait()` on an event loop, which goes on meanwhile."""
        import asyncio

        return asyncio.to_thread(self.wait).__await__()

    def get(self) -> Any:
        """The result of an execution that has ended.

        Raises:
            KitaruNotFinishedError: it has not.
            KitaruExecutionError: it ended without a result.
        """
        from kitaru.artifact_client import result
        from kitaru_registry.api.execution_requests import GetOutline
        from kitaru_registry.records.states import ENDED

        execution = self._session.ask(GetOutline(exec_id=self.exec_id))
        if execution.status not in ENDED:
            raise self._unfinished("still")
        if execution.status == "completed":
            return result(self._session, execution)
        raise failure_of(execution) from self._cause()

    def until_settled(self, timeout: float | None = None) -> Execution:
        """The execution once it has ended or stands at a wait, or after `timeout` seconds as it is.

        One that waits for children which go on is not settled. One that the machine cannot execute now is, as `pending`
        with a `status_reason`: it goes on by itself when that is mended.
        """
        from kitaru.reasons import current
        from kitaru.watching import SETTLED, until

        until(self._session, self.exec_id, SETTLED, timeout)
        return self._session.shown(current(self._session, self.exec_id))

    def cancel(self) -> Execution:
        """End it; what is recorded stays."""
        from kitaru.continuing import cancel
        from kitaru.reasons import current

        cancelled = cancel(self._session, self.exec_id)
        return self._session.shown(current(self._session, cancelled))

    def retry(self) -> FlowHandle:
        """Let it go on at what failed: see KitaruClient().executions.retry."""
        from kitaru.continuing import retry

        work = retry(self._session, self.exec_id)
        return FlowHandle(self._session, work.exec_id, work.flow)

    def logs(self, *, checkpoint: str | None = None) -> list[LogEntry]:
        """What it has printed so far, all attempts in order; of one checkpoint only where its key or name is given."""
        from kitaru.following import entries
        from kitaru_registry.api.artifact_requests import LogQuery

        return list(entries(self._session, self.exec_id, LogQuery(checkpoint)))

    def stream(self, offset: int = 0) -> Iterator[LogEntry]:
        """What it prints, line by line as it comes, until it has ended; through waits too.

        Args:
            offset: `.offset` of an entry, to go on behind it. In bytes.

        Raises:
            KitaruStateError: its process is gone, and nobody goes on with it.
        """
        from kitaru.following import follow
        from kitaru.watching import stopped
        from kitaru.working import is_abandoned
        from kitaru_registry.models import LogEntry

        for found in follow(self._session, self.exec_id, offset=offset):
            if isinstance(found, LogEntry):
                yield found
            elif is_abandoned(self._session, self.exec_id):
                raise stopped(self.exec_id)

    def _cause(self) -> BaseException | None:
        """The flow's own exception, where this process knows its class; nothing is imported for it."""
        from kitaru_registry.api.execution_requests import GetFailure
        from kitaru_runner.values.failures import rebuild

        error = self._session.ask(GetFailure(exec_id=self.exec_id))
        module = str((error or {}).get("class", "")).partition(":")[0]
        return rebuild(error) if error is not None and module in sys.modules else None

    def _unfinished(self, when: str) -> KitaruNotFinishedError:
        return KitaruNotFinishedError(
            f"execution {self.exec_id} of {self.flow} is {self.status} {when}",
            hint=f"kitaru executions get {self.exec_id}",
        )


def failure_of(execution: Execution) -> KitaruExecutionError:
    """The error that says how an execution ended without a result."""
    where = {"exec_id": execution.exec_id, "status": execution.status}
    hint = f"kitaru executions get {execution.exec_id}"
    error = execution.error
    if error is None:
        return KitaruExecutionError(
            f"execution {execution.exec_id} was {execution.status_reason or execution.status}", hint=hint, **where
        )
    message = f"execution {execution.exec_id} of {execution.flow} failed: {error.type}: {error.message}"
    kinds = {"user_code": KitaruUserCodeError, "divergence": KitaruDivergenceError}
    kind = kinds.get(error.origin, KitaruExecutionError)
    return kind(message, hint=hint, failure_origin=error.origin, **where)
