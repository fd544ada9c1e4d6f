"""SIGKILL for the runner, the child, and both, before and after the commit of every write of an execution.

Whatever is killed, the execution ends with the result of the uninterrupted one, nothing that is recorded is executed
again, and the processes of an earlier attempt do nothing once a later one has begun.
"""

from __future__ import annotations

import pytest
from crashes import Trial
from killing_runner import Kill
from tours import KILLS, WRITES, check, go_through

from kitaru_registry.models import ExecutionId


def test_the_uninterrupted_execution_makes_the_writes_that_are_tried(trial: Trial, tour: ExecutionId) -> None:
    trial.start_killing_runner(tour)

    go_through(trial, tour)

    kinds = [what.split("[")[0] for what in trial.writes()]
    assert kinds == [what.split("[")[0] for what in WRITES]
    check(trial, tour)


@pytest.mark.parametrize("kill", KILLS, ids=str)
def test_another_runner_takes_over_after_a_kill(kill: Kill, trial: Trial, tour: ExecutionId) -> None:
    first = trial.start_killing_runner(tour, kill)

    go_through(trial, tour, successor_of=first)

    check(trial, tour, kill)
