"""Two runners compete for a home, and whichever makes a write is killed there: see test_kill_at_every_write.py."""

from __future__ import annotations

import pytest
from crashes import Trial
from killing_runner import Kill
from tours import KILLS, check, go_through

from kitaru_registry.models import ExecutionId


@pytest.mark.parametrize("kill", KILLS, ids=str)
def test_two_runners_compete_and_either_is_killed(kill: Kill, trial: Trial, tour: ExecutionId) -> None:
    for _ in range(2):
        trial.start_killing_runner(tour, kill)

    go_through(trial, tour)

    check(trial, tour, kill)
