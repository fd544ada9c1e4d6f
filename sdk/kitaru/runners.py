"""`KitaruClient().runner`: the processes that work on this home's executions."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

from kitaru import working
from kitaru.door import checked_methods
from kitaru_registry.api.execution_requests import ListRunning
from kitaru_registry.api.version_requests import DeclaredVariables
from kitaru_registry.clock import as_datetime
from kitaru_registry.models import ExecutionId, RunnerState
from kitaru_runner.host import presence, variables
from kitaru_runner.host.locks import execution_lock

if TYPE_CHECKING:
    from kitaru.session import Session


@checked_methods
class Runners:
    """`KitaruClient().runner`"""

    def __init__(self, session: Session) -> None:
        self._session = session

    def state(self) -> RunnerState:
        """Of the local runner."""
        for state in self.list():
            if state.local:
                return state
        return RunnerState(running=False, home=str(self._session.home.root))

    def list(self) -> builtins.list[RunnerState]:
        """Every living runner of this home, newest first."""
        rows = self._session.ask(ListRunning())
        declared = self._session.ask(DeclaredVariables())
        return [
            RunnerState(
                running=True,
                local=found.local,
                pid=found.pid,
                started_at=as_datetime(found.started_us),
                executions=tuple(row.exec_id for row in rows if row.owner == found.owner),
                children=tuple(child_of(self._session, row.exec_id) for row in rows if row.owner == found.owner),
                home=str(self._session.home.root),
                version=found.version,
                lacks=variables.lacking(found.pid, declared),
            )
            for found in reversed(presence.list_runners(self._session.home))
        ]

    def start(self) -> RunnerState:
        """See to it that the local runner runs."""
        presence.start_local(self._session.home, working.options(self._session))
        presence.wait_for_runner(self._session.home)
        return self.state()

    def stop(self) -> RunnerState:
        """End the local runner; what it executed can be resumed.

        Raises:
            KitaruNotFoundError: there is none.
        """
        state = self.state()
        presence.stop_local(self._session.home)
        return state.model_copy(update={"running": False})

    def drain(self, *, timeout: float | None = None) -> RunnerState:
        """End the local runner when the checkpoints that are in flight have ended; what it executed can be resumed.

        Args:
            timeout: how many seconds to wait for that; it drains on after them.

        Raises:
            KitaruNotFoundError: there is none.
            KitaruNotFinishedError: the time is over.
        """
        state = self.state()
        presence.drain_local(self._session.home, timeout=timeout)
        return state.model_copy(update={"running": False})

    def run(self) -> None:
        """Be a runner, in this process, until SIGINT or SIGTERM: the home's local one where it has none."""
        from importlib.metadata import version

        from kitaru_runner.host.worker import run_runner

        config, home = self._session.config.runner, self._session.home
        synchronous = self._session.config.journal.synchronous
        working.remember_retention(self._session)
        config = config.model_copy(update={"idle_seconds": 10**9})
        if not run_runner(home, config, version=version("kitaru"), local=True, synchronous=synchronous):
            run_runner(home, config, version=version("kitaru"), local=False, synchronous=synchronous)

    def look_after_home(self) -> bool:
        """Let the local runner begin where one has died and left work; not where it was stopped. Whether it has."""
        return working.look_after_home(self._session)

    def look_after(self, exec_id: ExecutionId) -> None:
        """See to it that an open, deployed execution has a runner, or the children that it waits for; and its times.

        Raises:
            KitaruStateError: it is a source execution whose attempt has ended, and which nobody goes on with.
        """
        working.look_after(self._session, exec_id)


def child_of(session: Session, exec_id: str) -> int | None:
    """The process that executes, as its lock says."""
    path = execution_lock(session.home, exec_id)
    said = path.read_text().split() if path.exists() else []
    return int(said[0]) if said and said[0].isdigit() else None
