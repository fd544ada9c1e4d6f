"""What `.run()` and `.invoke()` give: an execution to ask, to wait for, to end."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from kitaru.door import checked, checked_methods
from kitaru_registry.errors import (
    KitaruDivergenceError,
    KitaruExecutionError,
    KitaruNotFinishedError,
    KitaruStateError,
    KitaruUserCodeError,
)

if TYPE_CHECKING:
    from kitaru.client import KitaruClient
    from kitaru_registry.models import Execution, ExecutionId, LogEntry

SHORTEST_POLL_SECONDS = 0.002
LONGEST_POLL_SECONDS = 0.05
POLL_SHARE = 0.05
"""What polling may add to the time that an execution takes."""

LOOK_AFTER_SECONDS = 1.0
"""How often a caller that waits makes sure that somebody works on it."""

LOOKS_WITHOUT_PROCESS = 3
"""After so many nobody is waited for any more: a process that ends or begins needs a moment."""

LOOKS_AT_A_FAULT = 2
"""After so many it is said what the machine lacks: it may be mended in a moment."""

SETTLED = frozenset({"completed", "failed", "cancelled", "waiting"})
ENDED = frozenset({"completed", "failed", "cancelled"})


@checked_methods
class FlowHandle:
    """An execution. It outlives the handle, and this process where it was deployed."""

    @checked
    def __init__(self, client: KitaruClient, exec_id: ExecutionId, flow: str, *, created: bool = True) -> None:
        self._client = client
        self.exec_id = exec_id
        self.flow = flow
        self.created = created
        """False where an idempotency key gave an execution that was there."""

    def __repr__(self) -> str:
        return f"<FlowHandle {self.flow} {self.exec_id}>"

    @property
    def status(self) -> str:
        """As of now: pending, running, waiting, completed, failed or cancelled."""
        return self._client.executions.status(self.exec_id)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What its code did otherwise than its journal has it, so far. A completed execution should have none."""
        from kitaru_registry.api.execution_requests import GetWarnings

        return self._client.ask(GetWarnings(exec_id=self.exec_id))

    def wait(self, timeout: float | None = None) -> Any:
        """The flow's result, once it has ended; blocks through waits, and goes on when their answers come.

        Args:
            timeout: seconds.

        Raises:
            KitaruUserCodeError: the flow raised; its exception is the cause where its class can be had here.
            KitaruNotFinishedError: the time-out was over first; the execution goes on.
            KitaruStateError: its process is gone, and nobody goes on with it.
        """
        if self._until(ENDED, timeout) not in ENDED:
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
        from kitaru_registry.api.execution_requests import GetOutline

        execution = self._client.ask(GetOutline(exec_id=self.exec_id))
        if execution.status not in ENDED:
            raise self._unfinished("still")
        if execution.status == "completed":
            return self._client.result(execution)
        raise failure_of(execution) from self._cause()

    def until_settled(self, timeout: float | None = None) -> Execution:
        """The execution once it has ended or stands at a wait, or after `timeout` seconds as it is.

        One that waits for children which go on is not settled. One that the machine cannot execute now is, as `pending`
        with a `status_reason`: it goes on by itself when that is mended.
        """
        self._until(SETTLED, timeout)
        return self._client.executions.get(self.exec_id)

    def cancel(self) -> Execution:
        """End it; what is recorded stays."""
        return self._client.executions.cancel(self.exec_id)

    def retry(self) -> FlowHandle:
        """Let it go on at what failed: see KitaruClient().executions.retry."""
        return self._client.executions.retry(self.exec_id)

    def logs(self, *, checkpoint: str | None = None) -> list[LogEntry]:
        """What it has printed so far, all attempts in order; of one checkpoint only where its key or name is given."""
        return self._client.executions.logs(self.exec_id, checkpoint=checkpoint)

    def stream(self, offset: int = 0) -> Iterator[LogEntry]:
        """What it prints, line by line as it comes, until it has ended; through waits too.

        Args:
            offset: `.offset` of an entry, to go on behind it. In bytes.

        Raises:
            KitaruStateError: its process is gone, and nobody goes on with it.
        """
        from kitaru_registry.models import LogEntry

        for found in self._client.executions.follow(self.exec_id, offset=offset):
            if isinstance(found, LogEntry):
                yield found
            elif self._client.runner.is_abandoned(self.exec_id):
                raise self._stopped()

    def _cause(self) -> BaseException | None:
        """The flow's own exception, where this process knows its class; nothing is imported for it."""
        from kitaru_registry.api.execution_requests import GetFailure
        from kitaru_runner.values.failures import rebuild

        error = self._client.ask(GetFailure(exec_id=self.exec_id))
        module = str((error or {}).get("class", "")).partition(":")[0]
        return rebuild(error) if error is not None and module in sys.modules else None

    def _stopped(self) -> KitaruStateError:
        return KitaruStateError(
            f"execution {self.exec_id} has stopped: its process is gone",
            hint=f"kitaru executions resume {self.exec_id}",
        )

    def _unfinished(self, when: str) -> KitaruNotFinishedError:
        return KitaruNotFinishedError(
            f"execution {self.exec_id} of {self.flow} is {self.status} {when}",
            hint=f"kitaru executions get {self.exec_id}",
        )

    def _until(self, wanted: frozenset[str], timeout: float | None) -> str:
        deadline = None if timeout is None else time.monotonic() + timeout
        began = looked_at = time.monotonic()
        abandoned = faulty = 0
        while not self._is_in(wanted, status := self.status):
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return status
            if now - looked_at > LOOK_AFTER_SECONDS:
                looked_at = now
                self._client.look_after(self.exec_id)
                abandoned = abandoned + 1 if self._client.runner.is_abandoned(self.exec_id) else 0
                if abandoned == LOOKS_WITHOUT_PROCESS:
                    raise self._stopped()
                faulty = faulty + 1 if wanted == SETTLED and self._is_at_fault() else 0
                if faulty == LOOKS_AT_A_FAULT:
                    return status
            pause = min(max(SHORTEST_POLL_SECONDS, (now - began) * POLL_SHARE), LONGEST_POLL_SECONDS)
            time.sleep(pause if deadline is None else max(0.0, min(pause, deadline - now)))
        return status

    def _is_at_fault(self) -> bool:
        from kitaru_registry.api.execution_requests import GetStanding

        return self._client.ask(GetStanding(exec_id=self.exec_id)).fault is not None

    def _is_in(self, wanted: frozenset[str], status: str) -> bool:
        if status != "waiting" or status not in wanted:
            return status in wanted
        from kitaru_registry.api.execution_requests import GetStanding

        return self._client.ask(GetStanding(exec_id=self.exec_id)).stands_still


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
