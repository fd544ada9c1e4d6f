"""Runners that stand still for longer than their lease, as a laptop does whose lid is closed, and go on.

On one host a take-over needs the execution's file lock, which stopped processes hold on to (test_one_owner.py). The
second host of these tests is a runner in namespaces of its own: it has another host name, and, mounted over the
home's, folders of its own for the locks of executions and for the presence of runners. What it shares with the first
is the database, so that lease and attempt alone decide between the two.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import ExitStack
from typing import Any

import pytest
from crashes import ENDS, PATIENCE_SECONDS, Trial, at_gate, until, watched

from kitaru_registry.clock import now_us
from kitaru_registry.models import ExecutionId

NAMESPACES = ("unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")), "--uts", "--mount")
MOVE = """
hostname another-host
mount -t tmpfs tmpfs "$KITARU_HOME/executions"
mount -t tmpfs tmpfs "$KITARU_HOME/runner"
exec "$@"
"""
ANOTHER_HOST = (*NAMESPACES, "sh", "-ec", MOVE, "sh")
LEASE = "--lease-seconds=2"
TABLES = ("executions", "journal", "waits", "artifacts")
PLACES = ("checkpoint", "save", "wait", "end")

needs_namespaces = pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run([*NAMESPACES, "true"], capture_output=True).returncode != 0,
    reason="this machine does not let a test have a host name of its own (unshare --uts --mount)",
)


@needs_namespaces
def test_two_runners_paused_past_their_lease_write_nothing_when_they_go_on(trial: Trial) -> None:
    """One paused alone, its children being about to write; the other together with its children."""
    first = trial.start_runner(LEASE, f"--max-executions={len(PLACES)}")
    stuck = [trial.invoke("gated", before=place) for place in PLACES]
    at_gate(trial, len(stuck))
    second = trial.start_runner(LEASE)
    stuck += [trial.invoke("gated", before=place) for place in PLACES[:2]]
    children = at_gate(trial, len(stuck))
    paused = [first.pid, second.pid, *children[len(PLACES) :]]
    trial.pause(*paused)
    trial.gate.touch()

    start_on_another_host(trial)
    until(lambda: all(status(trial, exec_id) in (*ENDS, "waiting") for exec_id in stuck), what="taken over")
    before = record(trial)
    with ExitStack() as stack:
        ended = [stack.enter_context(watched(child)) for child in children]
        send(signal.SIGCONT, paused)
        until(lambda: all(has_ended() for has_ended in ended), what="the end of those that were fenced out")
    codes = [stopped(runner) for runner in (first, second)]

    assert record(trial) == before
    assert codes == [0, 0], (trial.folder / "runner.log").read_text()
    assert {row["attempt"] for row in before["executions"]} == {2}
    assert {row["attempt"] for row in before["journal"] if row["key"] == "pass_gate"} == {2}
    assert sorted(row["status"] for row in before["executions"]) == ["completed"] * 5 + ["waiting"]
    assert (trial.folder / "runner.log").read_text() == ""


def test_an_owner_paused_past_its_lease_whom_nobody_replaced_goes_on(trial: Trial) -> None:
    owner = trial.start_runner(LEASE)
    exec_id = trial.invoke("gated")
    paused = [owner.pid, *at_gate(trial, 1)]
    trial.pause(*paused)
    until(lambda: lease_end(trial, exec_id) < now_us(), what="over: the lease")

    send(signal.SIGCONT, paused)
    until(lambda: lease_end(trial, exec_id) > now_us(), what="renewed: the lease")
    trial.gate.touch()
    execution = trial.ended(exec_id)

    assert (execution.status, execution.result, execution.attempt) == ("completed", "open", 1)
    assert len(trial.begun("pass_gate")) == 1


@needs_namespaces
def test_a_paused_child_keeps_its_execution_for_as_long_as_its_runner_lives(trial: Trial) -> None:
    trial.start_runner(LEASE, "--max-executions=1")
    exec_id = trial.invoke("gated")
    child = at_gate(trial, 1)
    trial.pause(*child)
    first_end = lease_end(trial, exec_id)
    start_on_another_host(trial)
    until(lambda: now_us() > first_end and lease_end(trial, exec_id) > now_us(), what="renewed: the lease")
    # Younger than the one at the gate, so whoever claims it has passed the other by; the first runner is full.
    trial.ended(trial.invoke("stumbling", steps=0))

    send(signal.SIGCONT, child)
    trial.gate.touch()
    execution = trial.ended(exec_id)

    assert (execution.status, execution.result, execution.attempt) == ("completed", "open", 1)


def start_on_another_host(trial: Trial) -> None:
    """A runner there, where the gate is open."""
    gate = trial.folder / "open-gate"
    gate.touch()
    trial.start_runner(LEASE, behind=ANOTHER_HOST, gate=gate)


def send(number: signal.Signals, processes: list[int]) -> None:
    for process in processes:
        os.kill(process, number)


def status(trial: Trial, exec_id: ExecutionId) -> str:
    return str(trial.sql("SELECT status FROM executions WHERE exec_id = ?", exec_id)[0][0])


def lease_end(trial: Trial, exec_id: ExecutionId) -> int:
    return int(trial.sql("SELECT lease_until_us FROM executions WHERE exec_id = ?", exec_id)[0][0])


def stopped(runner: subprocess.Popen[bytes]) -> int:
    """The exit code of a runner that was asked to stop."""
    runner.terminate()
    return runner.wait(PATIENCE_SECONDS)


def record(trial: Trial) -> dict[str, Any]:
    """Every row that an execution has, and every large value."""
    found: dict[str, Any] = {table: trial.named_rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES}
    found["values"] = sorted(path.name for path in trial.home.values.rglob("*"))
    return found
