"""Attempts that get nowhere come to an end; those that record something may be as many as they like."""

from __future__ import annotations

from crashes import ENDS, Trial, until

LIMIT = 5


def test_five_fruitless_attempts_end_in_failed_with_signal_and_checkpoint_named(trial: Trial) -> None:
    exec_id = trial.invoke("doomed", victim="child")
    trial.start_killing_runner(exec_id)

    execution = trial.ended(exec_id)

    assert execution.status == "failed"
    assert execution.error is not None
    assert execution.error.origin == "crashed"
    assert execution.error.checkpoint == "doom"
    assert f"{LIMIT} attempts in a row" in execution.error.message
    assert execution.error.message.endswith("killed by SIGKILL in doom")
    assert execution.attempt == len({line.pid for line in trial.begun("doom")}) == LIMIT


def test_a_flow_that_kills_its_runner_each_time_ends_in_failed_too(trial: Trial) -> None:
    exec_id = trial.invoke("doomed", victim="runner")

    def step() -> bool:
        if trial.client.executions.status(exec_id) in ENDS:
            return True
        if not any(process.is_alive() for process in trial.forked):
            trial.start_killing_runner(exec_id)
        return False

    until(step, what="ended")
    execution = trial.client.executions.get(exec_id)

    assert execution.status == "failed"
    assert execution.error is not None
    assert execution.error.origin == "crashed"
    assert execution.attempt == len({line.pid for line in trial.begun("doom")}) == LIMIT


def test_crashes_that_each_record_something_are_never_too_many(trial: Trial) -> None:
    steps = 2 * LIMIT
    exec_id = trial.invoke("stumbling", steps=steps)
    trial.start_killing_runner(exec_id)

    execution = trial.ended(exec_id)

    assert (execution.status, execution.result) == ("completed", sum(range(1, steps + 1)))
    assert execution.attempt == steps + 1
