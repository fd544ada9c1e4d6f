"""Random kills among the processes of executions, and what is then wrong with what they have told and recorded."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kitaru.client import KitaruClient
from kitaru_registry.home import Home
from kitaru_runner.host import presence
from kitaru_runner.host.locks import execution_lock, is_held

AT_ONCE = 4
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 120.0
"""Without a sign of life of any execution."""

BETWEEN_KILLS_SECONDS = (0.05, 0.7)
PAUSED_SECONDS = (0.2, 1.0)
MOST_IN_VAIN = 2
"""Kills in a row of an execution that recorded nothing in between: at five it fails, as it is to."""

STRIKES = {"child": 4, "runner": 2, "both": 2, "worker": 4, "any": 2, "pause": 3}
"""How often each comes."""

OPEN = "status NOT IN ('completed', 'failed', 'cancelled')"


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    state: str
    command: str


@dataclass(frozen=True)
class Row:
    execution: str
    seq: int
    kind: str
    key: str
    label: str | None
    nonce: str | None


@dataclass(frozen=True)
class Record:
    """What is in a home, and what its flows have told."""

    lines: list[list[str]]
    """EVENT EXECUTION LABEL DETAIL"""
    rows: list[Row]
    executions: list[tuple[str, str, str]]
    """Id, flow, status."""
    results: dict[int, Any]
    """By seed."""

    @classmethod
    def of(cls, home: Home, trace: Path, invoked: Mapping[int, str]) -> Record:
        client = KitaruClient(home, cwd=trace.parent)
        try:
            results = {seed: client.executions.get(exec_id).result for seed, exec_id in invoked.items()}
        finally:
            client.database.close()
        rows = query(
            home,
            "SELECT e.exec_id, j.seq, j.kind, j.key, j.metadata ->> 'label', j.metadata ->> 'nonce' "
            "FROM journal j JOIN executions e ON e.id = j.execution ORDER BY j.execution, j.seq",
        )
        return cls(
            [line.split(" ") for line in trace.read_text().splitlines()],
            [Row(*row) for row in rows],
            query(home, "SELECT exec_id, flow, status FROM executions"),
            results,
        )


def query(home: Home, statement: str) -> list[Any]:
    with closing(sqlite3.connect(home.database, timeout=PATIENCE_SECONDS)) as connection:
        return connection.execute(statement).fetchall()


# The judge


def faults_of(record: Record, expected: Mapping[int, Mapping[str, str]], *, beside: tuple[str, ...]) -> list[str]:
    """What is stuck, wrong, lost, or was executed twice.

    Args:
        expected: by seed, the digest of each label's value.
        beside: ends of labels that no checkpoint has.
    """
    return [
        *(f"stuck: {flow} {exec_id} is {now}" for exec_id, flow, now in record.executions if now != "completed"),
        *(f"wrong: the result of seed {s}" for s, digests in expected.items() if record.results.get(s) != digests),
        *faults_of_rows(record.rows),
        *faults_of_labels(record, {k: v for one in expected.values() for k, v in one.items()}, beside),
    ]  # fmt: skip


def faults_of_rows(rows: Iterable[Row]) -> list[str]:
    of_one: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        of_one[row.execution].append(row)
    found = []
    for exec_id, own in of_one.items():
        if [row.seq for row in own] != list(range(1, len(own) + 1)):
            found.append(f"lost: the journal of {exec_id} has gaps")
        keys = [row.key for row in own if row.kind == "c"]
        found += [f"twice: {key} of {exec_id} has two outcomes" for key in set(keys) if keys.count(key) > 1]
    return found


def faults_of_labels(record: Record, digests: Mapping[str, str], beside: tuple[str, ...]) -> list[str]:
    recorded = {row.label: row.nonce for row in record.rows if row.kind == "c"}
    begun: dict[str, list[str]] = defaultdict(list)
    came: dict[str, set[str]] = defaultdict(set)
    found = []
    for event, _, label, detail in record.lines:
        if event == "got":
            came[label].add(detail)
        elif label in came:
            found.append(f"twice: {label} was executed again after its outcome had come to the flow")
        else:
            begun[label].append(detail)
    for label, digest in digests.items():
        if came[label] != {digest}:
            found.append(f"wrong: {label} came as {came[label]}")
        if label.endswith(beside):
            continue
        if label not in recorded:
            found.append(f"lost: the outcome of {label} is not recorded")
        elif begun[label][-1:] != [recorded[label]]:
            found.append(f"twice: {label} was executed again after its outcome was recorded, or by two at once")
    return found


# The kills


@dataclass
class Storm:
    """Executions of `storm` in one home, some at a time, and what happens to their processes."""

    home: Home
    folder: Path
    executable: Path
    chance: random.Random
    answers: Any
    """By the name of a wait, what to answer."""
    invoked: dict[int, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    """Of each strike, who and when."""
    kills: int = 0
    _paused: list[tuple[float, int]] = field(default_factory=list)
    _in_vain: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of an execution: kills in vain, and how many rows it had at the last."""
    _runners: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.client = KitaruClient(self.home, cwd=self.folder)

    @property
    def trace(self) -> Path:
        return self.folder / "trace"

    def rage(self, kills: int) -> None:
        """Strike so many times, then let all that was invoked come to its end, if it does."""
        strike_at = time.monotonic()
        signs: tuple[int, int] = (0, 0)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.kills < kills or self._open():
            if self.kills < kills and len(self._open("flow = 'storm' AND ")) < AT_ONCE:
                self._invoke()
            if self.kills < kills and time.monotonic() >= strike_at and self.strike():
                strike_at = time.monotonic() + self.chance.uniform(*BETWEEN_KILLS_SECONDS)
            self._go_on()
            now = (len(query(self.home, "SELECT 1 FROM journal")), self.trace.stat().st_size if self.kills else 0)
            if now != signs:
                signs, deadline = now, time.monotonic() + PATIENCE_SECONDS
            elif time.monotonic() > deadline:
                return
            time.sleep(POLL_SECONDS)

    def _open(self, which: str = "") -> list[str]:
        return [exec_id for (exec_id,) in query(self.home, f"SELECT exec_id FROM executions WHERE {which}{OPEN}")]

    def _invoke(self) -> None:
        seed = self.chance.randrange(1_000_000)
        self.invoked[seed] = self.client.deployments.invoke(flow="soak/storm", inputs={"seed": seed}).exec_id

    def _go_on(self) -> None:
        """What keeps executions going: an answer, whoever looks at the home, and SIGCONT."""
        for at, descriptor in list(self._paused):
            if time.monotonic() >= at:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGCONT)
                os.close(descriptor)
                self._paused.remove((at, descriptor))
        asked = (
            "SELECT e.exec_id, w.name FROM waits w JOIN executions e ON e.id = w.execution WHERE w.status = 'pending'"
        )
        for exec_id, name in query(self.home, f"{asked} AND w.kind = 'input'"):
            self.client.executions.input(exec_id, wait=name, value=self.answers(name))
        for pid in list(self._runners):
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    self._runners.discard(pid)
        if not presence.list_runners(self.home):
            self._look()

    def _look(self) -> None:
        match self.chance.randrange(4):
            case 0:
                self.client.runner.start()
            case 1:
                subprocess.run(
                    [self.executable, "status"], cwd=self.folder, capture_output=True, check=True,
                    env={**os.environ, "KITARU_HOME": str(self.home.root)}, timeout=PATIENCE_SECONDS,
                )  # fmt: skip
            case _:
                self.client.runner.look_after_home()

    def strike(self) -> bool:
        """Whether somebody was there to be struck, and may be."""
        (kind,) = self.chance.choices(list(STRIKES), list(STRIKES.values()))
        for state in self.client.runner.list():
            assert state.pid is not None
            self._runners.add(state.pid)
            running = {exec_id: pid for exec_id, pid in zip(state.executions, state.children, strict=True) if pid}
            victims = self._victims(kind, state.pid, running)
            hit = set(running) if state.pid in victims else {e for e, pid in running.items() if pid in victims}
            if not victims or (kind != "pause" and not all(map(self._may_be_hit, hit))):
                continue
            return self._pause(victims) if kind == "pause" else self._kill(kind, victims, hit)
        return False

    def _victims(self, kind: str, runner: int, running: Mapping[str, int]) -> list[int]:
        children = list(running.values())
        below = [process.pid for process in processes_below(runner) if is_for_us(process)]
        workers = [pid for pid in below if pid not in children]
        one_of = {"child": children, "worker": workers, "any": below, "pause": [runner, *below], "runner": [runner]}
        if kind == "both":
            both = [runner, self.chance.choice(children)] if children else []
            self.chance.shuffle(both)
            return both
        return [self.chance.choice(one_of[kind])] if one_of[kind] else []

    def _may_be_hit(self, exec_id: str) -> bool:
        in_vain, rows = self._in_vain.get(exec_id, (0, 0))
        return in_vain < MOST_IN_VAIN or self._rows(exec_id) > rows

    def _rows(self, exec_id: str) -> int:
        of_one = f"SELECT 1 FROM journal j JOIN executions e ON e.id = j.execution WHERE e.exec_id = '{exec_id}'"
        return len(query(self.home, of_one))

    def _kill(self, kind: str, victims: list[int], hit: set[str]) -> bool:
        for exec_id in hit:
            in_vain, rows = self._in_vain.get(exec_id, (0, 0))
            now = self._rows(exec_id)
            self._in_vain[exec_id] = (in_vain + 1 if now == rows else 1, now)
        for pid in victims:
            with suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                try:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                finally:
                    os.close(descriptor)
        self.kills += 1
        self._tell(f"kill {kind} {victims} of {sorted(hit)}")
        return True

    def _pause(self, victims: list[int]) -> bool:
        for pid in victims:
            with suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                signal.pidfd_send_signal(descriptor, signal.SIGSTOP)
                self._paused.append((time.monotonic() + self.chance.uniform(*PAUSED_SECONDS), descriptor))
        self._tell(f"pause {victims}")
        return True

    def _tell(self, what: str) -> None:
        after = len(self.trace.read_text().splitlines())
        self.told.append(f"{time.monotonic():.2f} after line {after} of the trace: {what}")

    # What is left

    def held(self) -> list[str]:
        """Executions whose lock somebody holds."""
        ids = [exec_id for (exec_id,) in query(self.home, "SELECT exec_id FROM executions")]
        return [exec_id for exec_id in ids if is_held(execution_lock(self.home, exec_id))]

    def living(self) -> list[Process]:
        """Whatever was started by a runner of this home, however far it has gone since."""
        mark = f"SOAK_TRACE={self.trace}".encode()
        return [process for process in processes() if process.pid != os.getpid() and mark in environment(process.pid)]

    def end(self) -> None:
        for _, descriptor in self._paused:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGCONT)
            os.close(descriptor)
        self._paused.clear()
        if presence.list_runners(self.home):
            self.client.runner.stop()
        self.client.database.close()


def processes() -> list[Process]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found.append(Process(int(folder.name), int(parent), state, command))
    return [process for process in found if process.state != "Z"]


def processes_below(pid: int) -> list[Process]:
    children = defaultdict(list)
    for process in processes():
        children[process.parent].append(process)
    found = list(children[pid])
    for process in found:
        found += children[process.pid]
    return found


def environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def is_for_us(process: Process) -> bool:
    """multiprocessing.Pool waits for ever for the task of a worker that is killed: python/cpython#66587."""
    return "multiprocessing.spawn" not in process.command
