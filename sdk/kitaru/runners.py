"""Who works on executions: the local runner, or the process that a source execution is started again in."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.door import checked_methods
from kitaru.hash_seeds import SEED
from kitaru_registry.api.execution_requests import GetOutline, GetStanding, ListRunning
from kitaru_registry.api.version_requests import DeclaredVariables
from kitaru_registry.api.work_requests import GetNextDue, GetRoot, MakeDue, RememberRetention, StopWaiting
from kitaru_registry.clock import as_datetime, as_microseconds, now_us
from kitaru_registry.config import span_seconds
from kitaru_registry.errors import KitaruStateError
from kitaru_registry.models import Deleted, Execution, ExecutionId, RunnerState
from kitaru_registry.records.answers import Work
from kitaru_registry.records.states import OPEN
from kitaru_runner.host import presence, variables
from kitaru_runner.host.locks import execution_lock, is_held, owner_of
from kitaru_runner.host.retention import delete, delete_each, end_lost

if TYPE_CHECKING:
    from kitaru.client import KitaruClient


STARTING = "starting"
"""A file of an execution's folder: the process that was started last to go on with it."""


@checked_methods
class Runners:
    """`KitaruClient().runner`"""

    def __init__(self, client: KitaruClient) -> None:
        self._client = client

    def state(self) -> RunnerState:
        """Of the local runner."""
        for state in self.list():
            if state.local:
                return state
        return RunnerState(running=False, home=str(self._client.home.root))

    def list(self) -> builtins.list[RunnerState]:
        """Every living runner of this home, newest first."""
        rows = self._client.ask(ListRunning())
        declared = self._client.ask(DeclaredVariables())
        return [
            RunnerState(
                running=True,
                local=found.local,
                pid=found.pid,
                started_at=as_datetime(found.started_us),
                executions=tuple(row.exec_id for row in rows if row.owner == found.owner),
                children=tuple(child_of(self._client, row.exec_id) for row in rows if row.owner == found.owner),
                home=str(self._client.home.root),
                version=found.version,
                lacks=variables.lacking(found.pid, declared),
            )
            for found in reversed(presence.list_runners(self._client.home))
        ]

    def start(self) -> RunnerState:
        """See to it that the local runner runs."""
        presence.start_local(self._client.home, self._options())
        presence.wait_for_runner(self._client.home)
        return self.state()

    def stop(self) -> RunnerState:
        """End the local runner; what it executed can be resumed.

        Raises:
            KitaruNotFoundError: there is none.
        """
        state = self.state()
        presence.stop_local(self._client.home)
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
        presence.drain_local(self._client.home, timeout=timeout)
        return state.model_copy(update={"running": False})

    def run(self) -> None:
        """Be a runner, in this process, until SIGINT or SIGTERM: the home's local one where it has none."""
        from importlib.metadata import version

        from kitaru_runner.host.worker import run_runner

        config, home = self._client.config.runner, self._client.home
        synchronous = self._client.config.journal.synchronous
        self.remember_retention()
        config = config.model_copy(update={"idle_seconds": 10**9})
        if not run_runner(home, config, version=version("kitaru"), local=True, synchronous=synchronous):
            run_runner(home, config, version=version("kitaru"), local=False, synchronous=synchronous)

    def wake(self) -> None:
        presence.wake(self._client.home)

    def ensure(self) -> None:
        """Let pending work find a runner, unless `[runner] autostart = false`."""
        if self._client.config.runner.autostart:
            presence.ensure_runner(self._client.home, self._options())
        else:
            presence.wake(self._client.home)

    def hand_over(self, exec_id: ExecutionId, digest: str | None, flow: str, names: Sequence[str]) -> bool:
        """Give the home's runners this process's values of declared variables, in memory. False: nobody has heard.

        Args:
            flow: with its project; other executions of it see them too, until they are given others.
        """
        values = {name: os.environ[name] for name in names if name in os.environ}
        return not values or variables.hand_over(self._client.home, (exec_id, digest or "", flow), values)

    def hand_over_to_starting(
        self, exec_id: ExecutionId, digest: str | None, flow: str, names: Sequence[str]
    ) -> None:  # fmt: skip
        """As `hand_over`, to a runner that another process has started a moment ago; one of this process has them."""
        if is_held(presence.local_lock(self._client.home)) and not presence.started_here(self._client.home):
            presence.wait_for_runner(self._client.home)
            self.hand_over(exec_id, digest, flow, names)
            self._client.ask(MakeDue(exec_id=exec_id))
            self.wake()

    def look_after_home(self) -> bool:
        """Let the local runner begin where one has died and left work; not where it was stopped. Whether it has."""
        home = self._client.home
        if not self._client.config.runner.autostart or presence.was_stopped(home):
            return False
        if is_held(presence.local_lock(home)) or presence.list_runners(home):
            return False
        lost = [found for found in self._client.ask(ListRunning()) if found.kind == "deployed"]
        if self._is_overdue() or any(not self.is_executed(found.exec_id) for found in lost):
            self.ensure()
            return True
        return False

    def _is_overdue(self) -> bool:
        due = self._client.ask(GetNextDue())
        return due is not None and as_microseconds(due) <= now_us()

    def set_going(self, exec_id: ExecutionId, *, with_edits: bool = False) -> None:
        """Let an open execution go on now, whatever its kind. A child in its parent's process goes on with that."""
        self.let_work(self._client.ask(MakeDue(exec_id=exec_id)), with_edits=with_edits)

    def let_work(self, work: Work, *, with_edits: bool = False) -> None:
        """Let somebody work on what may go on, as the record says; see `set_going`."""
        if work.status not in OPEN:
            self.wake()
        elif work.kind == "deployed":
            self.hand_over(work.exec_id, work.digest, f"{work.project}/{work.flow}", work.variables)
            self.ensure()
        else:
            root = self._client.ask(GetRoot(exec_id=work.exec_id))
            if not self.is_executed(root.work.exec_id):
                status = root.work.status
                if root.waits_for_child:
                    status = self._client.ask(StopWaiting(exec_id=root.work.exec_id)).status
                if status in ("pending", "running"):
                    self._start_source(root.work.exec_id, with_edits=with_edits)

    def look_after(self, exec_id: ExecutionId) -> None:
        """See to it that an open, deployed execution has a runner, or the children that it waits for; and its times.

        Raises:
            KitaruStateError: it is a source execution whose attempt has ended, and which nobody goes on with.
        """
        execution = self._client.ask(GetOutline(exec_id=exec_id))
        working = {execution.status, *(child.status for child in execution.children)}
        if execution.kind == "deployed" and execution.status in OPEN and self._is_due(working):
            self.ensure()
        elif execution.status == "pending" and execution.status_reason is not None and not self.is_executed(exec_id):
            raise KitaruStateError(
                f"execution {exec_id} has stopped: {execution.status_reason}",
                hint=f"kitaru executions resume {exec_id}",
            )

    def _is_due(self, working: set[str]) -> bool:
        """Whether a runner has something to do, by and by, for executions of these states."""
        return bool(working & {"pending", "running"}) or self._client.ask(GetNextDue()) is not None

    def owner_of(self, exec_id: ExecutionId) -> str:
        """Who executes it, in words: `process 12 (runner 7)`."""
        return owner_of(execution_lock(self._client.home, exec_id))

    def tell_to_end(self, wanted: Sequence[ExecutionId]) -> None:
        """Let the processes of these look for a request to cancel; those that have lost theirs end here."""
        end_lost(self._client.database, wanted)
        self.wake()
        here = sys.modules.get("kitaru.running")
        if here is not None:
            here.poke_all()

    def delete(self, exec_ids: Sequence[ExecutionId]) -> Deleted:
        """See Executions.delete; the ids are whole."""
        return delete(self._client.database, exec_ids, actor=self._client.actor)

    def delete_each(self, exec_ids: Sequence[ExecutionId]) -> Deleted:
        """See Executions.delete_each; the ids are whole."""
        return delete_each(self._client.database, exec_ids, actor=self._client.actor)

    def is_executed(self, exec_id: ExecutionId) -> bool:
        """Whether a process of this machine has it, or one of another home that shares the record."""
        if is_held(execution_lock(self._client.home, exec_id)):
            return True
        is_shared = self._client.home.record is not None
        return is_shared and self._client.ask(GetStanding(exec_id=exec_id)).is_elsewhere

    def is_abandoned(self, exec_id: ExecutionId) -> bool:
        """Whether it is a source execution that should be going on, as its record says, and whose process is gone."""
        execution = self._client.ask(GetOutline(exec_id=exec_id))
        if execution.kind != "source" or execution.status not in ("pending", "running"):
            return False
        family = {exec_id, self._client.ask(GetRoot(exec_id=exec_id)).work.exec_id}
        return not any(self.is_executed(found) or self.is_starting(found) for found in family)

    def why_pending(self, execution: Execution) -> str | None:
        if presence.list_runners(self._client.home):
            return None
        return "no runner: start one with kitaru runner" if not self._client.config.runner.autostart else None

    def remember_retention(self) -> None:
        """Tell the home's runner how long this project keeps ended executions."""
        kept = self._client.config.retention.executions
        seconds = None if kept is None else span_seconds(kept)
        self._client.ask(RememberRetention(project=self._client.project, seconds=seconds))

    def _options(self) -> builtins.list[str]:
        config = self._client.config
        self.remember_retention()
        return [
            f"--max-executions={config.runner.max_executions}",
            f"--idle-seconds={config.runner.idle_seconds}",
            f"--lease-seconds={config.runner.lease_seconds}",
            f"--synchronous={config.journal.synchronous}",
            *([f"--record={self._client.home.record}"] if self._client.home.record is not None else []),
            *([f"--store={self._client.home.store}"] if self._client.home.store is not None else []),
        ]

    def _start_source(self, exec_id: ExecutionId, *, with_edits: bool) -> None:
        """Start a source execution again, in a process of its own, with the interpreter and folder it began with."""
        from kitaru.sources import require_resumable

        execution = self._client.ask(GetOutline(exec_id=exec_id))
        source = require_resumable(self._client, execution, with_edits=with_edits)
        self._client.ask(MakeDue(exec_id=exec_id))
        interpreter = source.interpreter if Path(source.interpreter).exists() else sys.executable
        folder = self._client.home.execution(execution.exec_id)
        process = presence.start_detached(
            [interpreter, "-m", "kitaru.resuming", execution.exec_id], home=self._client.home, folder=folder,
            cwd=Path(source.folder), variables={SEED: str(source.hash_seed or 0)},
        )  # fmt: skip
        (folder / STARTING).write_text(str(process))

    def is_starting(self, exec_id: ExecutionId) -> bool:
        """Whether a process is there that was started to go on with it."""
        try:
            process = Path("/proc", (self._client.home.execution(exec_id) / STARTING).read_text())
            command, state = (process / "cmdline").read_bytes(), (process / "stat").read_text().rpartition(")")[2]
        except OSError:
            return False
        # Empty while it is being executed, and when it is dead but not buried.
        return exec_id.encode() in command or (not command and state.split()[0] not in ("Z", "X"))


def child_of(client: KitaruClient, exec_id: str) -> int | None:
    """The process that executes, as its lock says."""
    path = execution_lock(client.home, exec_id)
    said = path.read_text().split() if path.exists() else []
    return int(said[0]) if said and said[0].isdigit() else None
