"""Processes that a flow leaves behind: they keep nothing of the execution, and end with it if they are its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from crashes import PATIENCE_SECONDS, Trial, until, watched

from kitaru_registry.models import ExecutionId
from kitaru_runner.host.locks import execution_lock, is_held

OWN = ("pool", "command")
"""What stays in the group of the flow's process."""

OTHERS = ("daemon", "session")


@pytest.fixture(autouse=True)
def nobody_is_left(trial: Trial) -> Iterator[None]:
    yield
    trial.gate.touch()


def left(trial: Trial, key: str) -> list[int]:
    """The processes that say to be there, once there are any."""
    return [line.pid for line in until(lambda: trial.begun(key), what=f"a process of {key}")]


def answer(trial: Trial, exec_id: ExecutionId) -> None:
    until(lambda: trial.client.executions.status(exec_id) == "waiting", what="waiting")
    trial.client.executions.input(exec_id, wait="go", value=True)


@pytest.mark.parametrize("what", [*OWN, *OTHERS])
@pytest.mark.parametrize("then", ["wait", "nothing", "die"])
def test_an_execution_goes_on_whatever_it_has_left_behind(trial: Trial, what: str, then: str) -> None:
    trial.start_runner("--max-executions", "1")
    exec_id = trial.invoke("leaving", what=what, then=then)
    if then == "wait":
        answer(trial, exec_id)

    execution = trial.ended(exec_id)

    assert execution.status == "completed"
    assert execution.attempt == (1 if then == "nothing" else 2)
    # And its place in the runner is free again.
    assert trial.ended(trial.invoke("stumbling", steps=0)).status == "completed"


@pytest.mark.parametrize("what", OWN)
def test_what_stays_in_the_flow_s_group_ends_with_it(trial: Trial, what: str) -> None:
    trial.start_runner()
    exec_id = trial.invoke("leaving", what=what, then="wait")
    with ExitStack() as stack:
        (pid, *_) = left(trial, "work" if what == "pool" else "daemon")
        has_ended = stack.enter_context(watched(pid))
        answer(trial, exec_id)

        until(has_ended, what="the end of what was left behind")


@pytest.mark.parametrize("what", OTHERS)
def test_what_has_left_the_group_lives_on_and_holds_nothing(trial: Trial, what: str) -> None:
    trial.start_runner()
    exec_id = trial.invoke("leaving", what=what, then="nothing")
    (pid,) = left(trial, "daemon")
    with watched(pid) as has_ended:
        trial.ended(exec_id)
        until(lambda: not is_held(execution_lock(trial.home, exec_id)), what="free")

        assert not has_ended()


def test_a_cancelled_pool_ends_at_work(trial: Trial) -> None:
    trial.start_runner()
    exec_id = trial.invoke("leaving", what="stand", then="")
    (pid,) = left(trial, "work")
    with watched(pid) as has_ended:
        cancelled = trial.client.executions.cancel(exec_id)

        assert cancelled.status == "cancelled"
        until(has_ended, what="the end of the pool")


def test_a_pool_whose_flow_and_runner_are_killed_ends_and_the_execution_is_taken_over(trial: Trial) -> None:
    runner = trial.start_runner()
    exec_id = trial.invoke("leaving", what="stand", then="")
    (pid,) = left(trial, "work")
    with watched(pid) as has_ended:
        runner.kill()
        os.kill(trial_child(trial, exec_id), signal.SIGKILL)

        until(has_ended, what="the end of the pool")
    trial.gate.touch()
    trial.start_runner()

    assert trial.ended(exec_id).result == "went on"


def trial_child(trial: Trial, exec_id: ExecutionId) -> int:
    return int(execution_lock(trial.home, exec_id).read_text().split()[0])


def test_a_deployed_process_ends_as_a_python_process_does(trial: Trial) -> None:
    trial.start_runner()
    exec_id = trial.invoke("leaving", what="end", then="")

    execution = trial.ended(exec_id)  # before its process has ended
    assert execution.status == "completed"
    assert is_held(execution_lock(trial.home, exec_id))
    trial.gate.touch()
    until(lambda: not is_held(execution_lock(trial.home, exec_id)), what="the end of the process")

    assert Path(f"{trial.trace}.goodbye").read_text() == "said"
    assert Path(f"{trial.trace}.rows").read_text() == "1,2,3\n"
    assert [line.key for line in trial.lines()] == ["thread", "goodbye"]
    assert [entry.message for entry in trial.client.executions.logs(exec_id)] == ["the last line"]


def test_a_deployed_process_that_does_not_end_is_killed_and_its_log_says_so(trial: Trial) -> None:
    exec_id = trial.invoke("leaving", what="end", then="")
    trial.start_killing_runner(exec_id, exit_seconds=0.0)

    assert trial.ended(exec_id).status == "completed"
    until(lambda: not is_held(execution_lock(trial.home, exec_id)), what="the end of the process")

    assert not Path(f"{trial.trace}.goodbye").exists()
    (said,) = [line for line in trial.client.executions.logs(exec_id) if line.level == "WARNING"]
    assert said.message == "its process was killed 0 s after its end: exit handlers or threads still ran"


def test_a_runner_that_is_stopped_ends_a_pool_at_work_and_the_next_one_goes_on(trial: Trial) -> None:
    runner = trial.start_runner()
    exec_id = trial.invoke("leaving", what="stand", then="")
    (pid,) = left(trial, "work")
    with watched(pid) as has_ended:
        runner.terminate()

        assert runner.wait(PATIENCE_SECONDS) == 0
        until(has_ended, what="the end of the pool")
    assert trial.client.executions.status(exec_id) == "pending"
    assert not is_held(execution_lock(trial.home, exec_id))
    trial.gate.touch()
    trial.start_runner()

    assert trial.ended(exec_id).result == "went on"
