"""Executions that are cut short: homes to do it in, processes to kill, and what is left to judge by."""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import killing_runner
from killing_runner import KILLED, RECORD_BYTES, Kill

from kitaru.client import KitaruClient
from kitaru_registry.home import Home
from kitaru_registry.models import Execution, ExecutionId

PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.005

ENDS = ("completed", "failed", "cancelled")

# Imports what a runner needs once, and forks each runner from there: a tenth of the time of a fresh start.
fork_server = multiprocessing.get_context("forkserver")
fork_server.set_forkserver_preload(["kitaru_runner.host.worker", "kitaru_runner.host.environment"])


def until(reached: Callable[[], Any], *, what: str) -> Any:
    """What `reached` gives, once that is something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := reached()):
        assert time.monotonic() < deadline, f"after {PATIENCE_SECONDS} s: not {what}"
        time.sleep(POLL_SECONDS)
    return found


@dataclass(frozen=True)
class Line:
    """What a flow told in its trace."""

    event: str
    key: str
    pid: int
    nonce: str


@dataclass(frozen=True)
class Row:
    """A row of the journal; the nonce is that of the try whose outcome it is."""

    kind: str
    key: str
    attempt: int
    tries: int
    nonce: str | None


@dataclass(frozen=True)
class Template:
    """A home in which the flows of `project` are deployed."""

    home: Home
    project: Path


@dataclass(frozen=True)
class Trial:
    """One home, in which executions are cut short."""

    home: Home
    project: Path
    folder: Path
    forked: list[BaseProcess] = field(default_factory=list)
    spawned: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    def copy(cls, template: Template, folder: Path) -> Trial:
        """In a copy of the template's home. What never changes in it is shared."""
        home = Home(folder / "home")
        home.root.mkdir(mode=0o700, parents=True)
        for shared in (template.home.layout, template.home.environments):
            (home.root / shared.name).symlink_to(shared)
        for file in template.home.root.glob(f"{template.home.database.name}*"):
            shutil.copy(file, home.root)
        return cls(home, template.project, folder)

    @property
    def client(self) -> KitaruClient:
        return KitaruClient(self.home, cwd=self.project)

    @property
    def trace(self) -> Path:
        return self.folder / "trace"

    @property
    def count(self) -> Path:
        return self.folder / "count"

    @property
    def gate(self) -> Path:
        return self.folder / "gate"

    # Processes

    def start_killing_runner(
        self, exec_id: str, kill: Kill | None = None, *, exit_seconds: float | None = None
    ) -> BaseProcess:
        process = fork_server.Process(
            target=killing_runner.run,
            args=(self.home,),
            kwargs={
                "trace": self.trace,
                "exec_id": exec_id,
                "count": self.count,
                "kill": kill,
                "gate": self.gate,
                "exit_seconds": exit_seconds,
            },
        )
        process.start()
        self.forked.append(process)
        return process

    def start_runner(
        self, *options: str, behind: Sequence[str] = (), gate: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """The plain one, with its own options, `behind` a command that starts it."""
        own = {"KITARU_HOME": self.home.root, "CRASH_TRACE": self.trace, "CRASH_GATE": gate or self.gate}
        with (self.folder / "runner.log").open("ab") as log:
            process = subprocess.Popen(
                [*behind, sys.executable, "-P", "-m", "kitaru_runner", *options],
                env={**os.environ, **{name: str(value) for name, value in own.items()}},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.spawned.append(process)
        return process

    def end_processes(self) -> None:
        for forked in self.forked:
            forked.kill()
            forked.join(PATIENCE_SECONDS)
        for spawned in self.spawned:
            spawned.kill()
            spawned.wait(PATIENCE_SECONDS)
        self.client.database.close()

    def invoke(self, flow: str, **inputs: object) -> ExecutionId:
        return self.client.deployments.invoke(flow=flow, inputs=inputs).exec_id

    # What can be seen

    def lines(self) -> list[Line]:
        text = self.trace.read_text() if self.trace.exists() else ""
        return [Line(event, key, int(pid), nonce) for event, key, pid, nonce in map(str.split, text.splitlines())]

    def begun(self, key: str) -> list[Line]:
        return [line for line in self.lines() if (line.event, line.key) == ("begin", key)]

    def writes(self) -> list[str]:
        """Every write that the killing runners counted, and their kills, in order."""
        text = self.count.read_text() if self.count.exists() else ""
        return [text[at : at + RECORD_BYTES].strip() for at in range(0, len(text), RECORD_BYTES)]

    def kills(self) -> list[str]:
        return [what.removeprefix(KILLED) for what in self.writes() if what.startswith(KILLED)]

    def rows(self, exec_id: str) -> list[Row]:
        found = self.sql(
            "SELECT j.kind, j.key, j.attempt, COALESCE(j.tries, 1), j.metadata FROM journal j JOIN executions e "
            "ON e.id = j.execution WHERE e.exec_id = ? ORDER BY j.seq",
            exec_id,
        )
        return [
            Row(kind, key, attempt, tries, json.loads(metadata)["nonce"] if metadata else None)
            for kind, key, attempt, tries, metadata in found
        ]

    def sql(self, statement: str, *values: object) -> list[Any]:
        connection = sqlite3.connect(self.home.database, isolation_level=None, timeout=PATIENCE_SECONDS)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def pause(self, *processes: int) -> None:
        """Stop processes; not in the middle of a write, where SQLite's lock would stand still with them."""
        while True:
            for process in processes:
                os.kill(process, signal.SIGSTOP)
            until(lambda: all(map(is_stopped, processes)), what="stopped")
            if self._can_write():
                return
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def _can_write(self) -> bool:
        with closing(sqlite3.connect(self.home.database, isolation_level=None, timeout=0.5)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            return True

    def named_rows(self, statement: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.home.database, timeout=PATIENCE_SECONDS)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement)]

    def ended(self, exec_id: ExecutionId) -> Execution:
        """The execution, once it has ended."""
        until(lambda: self.client.executions.status(exec_id) in ENDS, what=f"ended: {exec_id}")
        return self.client.executions.get(exec_id)

    def child(self, exec_id: ExecutionId) -> int:
        """The process that executes."""
        runners = self.client.runner.list()
        (found,) = {
            child
            for runner in runners
            for running, child in zip(runner.executions, runner.children, strict=True)
            if running == exec_id and child is not None
        }
        return found


def is_stopped(process: int) -> bool:
    """Whether every thread stands still: one within a system call goes on until that is over."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)


@contextmanager
def watched(pid: int) -> Iterator[Callable[[], bool]]:
    """Whether the process has ended; a number that is given out anew cannot deceive."""
    descriptor = os.pidfd_open(pid)
    try:
        # Not select(): a test process has more than 1,024 descriptors open.
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        yield lambda: bool(poll.poll(0))
    finally:
        os.close(descriptor)


def at_gate(trial: Trial, count: int) -> list[int]:
    """The processes that stand at the gate of `gated`, once there are so many."""
    until(lambda: len(trial.begun("pass_gate")) == count, what=f"{count} at the gate")
    return [line.pid for line in trial.begun("pass_gate")]


# What must hold of any trace and journal


def check_no_recorded_try_executed_again(lines: list[Line], rows: list[Row]) -> None:
    """Nothing of a checkpoint begins after the try whose outcome was recorded; tries are counted without a gap."""
    for key in {row.key for row in rows if row.kind in "ct"}:
        recorded = [row for row in rows if row.kind in "ct" and row.key == key]
        begun = [line.nonce for line in lines if (line.event, line.key) == ("begin", key)]
        places = [begun.index(row.nonce or "") for row in recorded]

        assert [row.tries for row in recorded] == list(range(1, len(recorded) + 1)), f"tries of {key}: {recorded}"
        assert [row.kind for row in recorded] == ["t"] * (len(recorded) - 1) + ["c"], f"rows of {key}: {recorded}"
        assert places == sorted(places), f"{key} was executed in another order than recorded"
        assert places[-1] == len(begun) - 1, f"{key} is recorded by try {places[-1] + 1} of {len(begun)}: {begun}"


def check_processes_take_turns(lines: list[Line], rows: list[Row]) -> None:
    """No process leaves a trace after the first trace of its successor; each records for an attempt of its own."""
    turns = [line.pid for number, line in enumerate(lines) if number == 0 or lines[number - 1].pid != line.pid]
    assert len(turns) == len(set(turns)), f"processes {turns} were at work at the same time"
    pid_of = {line.nonce: line.pid for line in lines}
    attempts: Mapping[int, set[int]] = {pid: set() for pid in turns}
    for row in rows:
        if row.nonce is not None:
            attempts[pid_of[row.nonce]].add(row.attempt)
    in_turn = [attempt for pid in turns for attempt in sorted(attempts[pid])]
    assert in_turn == sorted(set(in_turn)), f"attempts by process: {attempts}"
    assert all(len(of_one) <= 1 for of_one in attempts.values()), f"attempts by process: {attempts}"
