"""Whoever executes is the only one who does, and nobody is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from crashes import Trial, end_of, until, watched
from kitaru_registry.models import ExecutionId
from kitaru_runner.locks import execution_lock


def test_a_child_whose_runner_is_killed_ends(gated: ExecutionId, home_copy: Trial) -> None:
    runner = home_copy.start_runner()
    at_gate(home_copy, 1)

    with watched(home_copy.child(gated)) as child_has_ended:
        assert not child_has_ended()
        runner.kill()

        until(child_has_ended, what="the end of the child")


def test_resume_of_a_living_execution_names_its_process(gated: ExecutionId, home_copy: Trial, cli: Callable) -> None:
    home_copy.start_runner()
    at_gate(home_copy, 1)
    child = home_copy.child(gated)

    refused = cli("executions", "resume", gated, expect=4)

    assert f"{gated} is still running as process {child}" in refused.error["message"]
    assert home_copy.begun("pass_gate")[0].pid == child


def test_resume_of_an_execution_whose_runner_was_killed_goes_on(gated, home_copy, cli) -> None:
    end_of(kill(home_copy.start_runner()))


def test_a_stopped_owner_keeps_its_execution_although_its_lease_is_over(gated: ExecutionId, home_copy: Trial) -> None:
    owner = home_copy.start_runner()
    at_gate(home_copy, 1)
    os.kill(owner.pid, signal.SIGSTOP)
    home_copy.sql("UPDATE executions SET lease_until_us = 1 WHERE exec_id = ?", gated)

    home_copy.start_runner()
    # Younger than the one at the gate, so whoever claims it has passed the other by.
    home_copy.ended(home_copy.invoke("stumbling", steps=0))
    os.kill(owner.pid, signal.SIGCONT)
    home_copy.gate.write_text("open")
    execution = home_copy.ended(gated)

    assert (execution.status, execution.result, execution.attempt) == ("completed", "open", 1)
    assert len(home_copy.begun("pass_gate")) == 1


def test_an_owner_that_was_fenced_out_writes_nothing_and_ends_its_child(gated: ExecutionId, home_copy: Trial) -> None:
    """Without the lock's file there is no lock between the two: as between two hosts."""
    owner = home_copy.start_runner()
    (first,) = at_gate(home_copy, 1)
    os.kill(owner.pid, signal.SIGSTOP)
    execution_lock(home_copy.home, gated).unlink()

    home_copy.start_runner()
    second = at_gate(home_copy, 2)[-1]
    with watched(first) as first_has_ended:
        os.kill(owner.pid, signal.SIGCONT)
        until(first_has_ended, what="the end of the child that was fenced out")
    home_copy.gate.write_text("open")
    execution = home_copy.ended(gated)

    assert (execution.status, execution.result, execution.attempt) == ("completed", "open", 2)
    assert [line.pid for line in home_copy.lines() if line.event == "end"] == [second]
    assert {row.attempt for row in home_copy.rows(gated)} == {2}
    assert owner.poll() is None, "the runner itself goes on"


def at_gate(trial: Trial, count: int) -> list[int]:
    """The processes that stand at the gate, once there are so many."""
    until(lambda: len(trial.begun("pass_gate")) == count, what=f"{count} at the gate")
    return [line.pid for line in trial.begun("pass_gate")]
