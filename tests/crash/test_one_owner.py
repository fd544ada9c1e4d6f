"""Whoever executes is the only one who does, and nobody is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from crashes import Trial, at_gate, until, watched

from kitaru_registry.models import ExecutionId
from kitaru_runner.host.locks import execution_lock


@pytest.fixture
def gated(trial: Trial) -> ExecutionId:
    """Stands still in its checkpoint until the gate is opened."""
    return trial.invoke("gated")


def test_a_child_whose_runner_is_killed_ends(gated: ExecutionId, trial: Trial) -> None:
    runner = trial.start_runner()
    at_gate(trial, 1)

    with watched(trial.child(gated)) as child_has_ended:
        assert not child_has_ended()
        runner.kill()

        until(child_has_ended, what="the end of the child")


def test_resume_of_a_living_execution_names_its_process(
    gated: ExecutionId, trial: Trial, run_cli: Callable[..., Any]
) -> None:
    trial.start_runner()
    at_gate(trial, 1)
    child = trial.child(gated)

    refused = run_cli("executions", "resume", gated, expect=4)

    assert f"{gated} is still running as process {child}" in refused.error["message"]
    assert trial.begun("pass_gate")[0].pid == child


def test_a_stopped_owner_keeps_its_execution_although_its_lease_is_over(gated: ExecutionId, trial: Trial) -> None:
    owner = trial.start_runner()
    at_gate(trial, 1)
    trial.pause(owner.pid)
    trial.sql("UPDATE executions SET lease_until_us = 1 WHERE exec_id = ?", gated)

    trial.start_runner()
    # Younger than the one at the gate, so whoever claims it has passed the other by.
    trial.ended(trial.invoke("stumbling", steps=0))
    os.kill(owner.pid, signal.SIGCONT)
    trial.gate.touch()
    execution = trial.ended(gated)

    assert (execution.status, execution.result, execution.attempt) == ("completed", "open", 1)
    assert len(trial.begun("pass_gate")) == 1


def test_an_owner_that_was_fenced_out_writes_nothing_and_ends_its_child(gated: ExecutionId, trial: Trial) -> None:
    """Without the lock's file there is no lock between the two: as between two hosts."""
    owner = trial.start_runner()
    (first,) = at_gate(trial, 1)
    trial.pause(owner.pid)
    execution_lock(trial.home, gated).unlink()

    trial.start_runner()
    second = at_gate(trial, 2)[-1]
    with watched(first) as first_has_ended:
        os.kill(owner.pid, signal.SIGCONT)
        until(first_has_ended, what="the end of the child that was fenced out")
    trial.gate.touch()
    execution = trial.ended(gated)

    assert (execution.status, execution.result, execution.attempt) == ("completed", "open", 2)
    assert [line.pid for line in trial.lines() if line.event == "end"] == [second]
    assert {row.attempt for row in trial.rows(gated)} == {2}
    assert owner.poll() is None, "the runner itself goes on"
