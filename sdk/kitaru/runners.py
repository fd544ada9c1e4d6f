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
from kitaru_registry.clock import as_datetime, now_us
from kitaru_registry.config import span_seconds
from kitaru_registry.deployments.versions import declared_variables
from kitaru_registry.errors import KitaruStateError
from kitaru_registry.executions import families, queue, reading, retention
from kitaru_registry.models import Execution, ExecutionId, RunnerState
from kitaru_registry.records.states import OPEN
from kitaru_runner.host import presence, variables
from kitaru_runner.host.locks import execution_lock, is_held

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
        rows = reading.running_executions(self._client.database)
        declared = declared_variables(self._client.database)
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
            queue.make_due(self._client.database, exec_id)
            self.wake()

    def look_after_home(self) -> bool:
        """Let the local runner begin where one has died and left work; not where it was stopped. Whether it has."""
        home, database = self._client.home, self._client.database
        if not self._client.config.runner.autostart or presence.was_stopped(home):
            return False
        if is_held(presence.local_lock(home)) or presence.list_runners(home):
            return False
        due_us = queue.next_due_us(database)
        lost = [row for row in reading.running_executions(database) if row.kind == "deployed"]
        if (due_us is not None and due_us <= now_us()) or any(not self.is_executed(row.exec_id) for row in lost):
            self.ensure()
            return True
        return False

    def set_going(self, exec_id: ExecutionId, *, with_edits: bool = False) -> None:
        """Let an open execution go on now, whatever its kind. A child in its parent's process goes on with that."""
        database = self._client.database
        execution = reading.get_outline(database, exec_id)
        if execution.status not in OPEN:
            self.wake()
        elif execution.kind == "deployed":
            names, flow = declared_variables(database, execution.digest), f"{execution.project}/{execution.flow}"
            self.hand_over(exec_id, execution.digest, flow, names)
            queue.make_due(database, exec_id)
            self.ensure()
        else:
            root = families.root_of(database, exec_id)
            if not is_held(execution_lock(self._client.home, root)):
                if families.waits_for_child(database, root):
                    families.stop_waiting(database, root)
                if reading.get_status(database, root) in ("pending", "running"):
                    self._start_source(reading.get_outline(database, root), with_edits=with_edits)

    def look_after(self, exec_id: ExecutionId) -> None:
        """See to it that an open, deployed execution has a runner, or the children that it waits for; and its times.

        Raises:
            KitaruStateError: it is a source execution whose attempt has ended, and which nobody goes on with.
        """
        execution = reading.get_outline(self._client.database, exec_id)
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
        return bool(working & {"pending", "running"}) or queue.next_due_us(self._client.database) is not None

    def is_executed(self, exec_id: ExecutionId) -> bool:
        """Whether a process of this machine has it, or one of another home that shares the record."""
        return is_held(execution_lock(self._client.home, exec_id)) or queue.has_owner_elsewhere(
            self._client.database, exec_id
        )

    def is_abandoned(self, exec_id: ExecutionId) -> bool:
        """Whether it is a source execution that should be going on, as its record says, and whose process is gone."""
        execution = reading.get_outline(self._client.database, exec_id)
        if execution.kind != "source" or execution.status not in ("pending", "running"):
            return False
        family = {exec_id, families.root_of(self._client.database, exec_id)}
        return not any(self.is_executed(found) or self.is_starting(found) for found in family)

    def why_pending(self, execution: Execution) -> str | None:
        if presence.list_runners(self._client.home):
            return None
        return "no runner: start one with kitaru runner" if not self._client.config.runner.autostart else None

    def remember_retention(self) -> None:
        """Tell the home's runner how long this project keeps ended executions."""
        kept = self._client.config.retention.executions
        seconds = None if kept is None else span_seconds(kept)
        retention.remember_policy(self._client.database, self._client.project, seconds)

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

    def _start_source(self, execution: Execution, *, with_edits: bool) -> None:
        """Start a source execution again, in a process of its own, with the interpreter and folder it began with."""
        from kitaru.sources import require_resumable

        source = require_resumable(self._client, execution, with_edits=with_edits)
        queue.make_due(self._client.database, execution.exec_id)
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
