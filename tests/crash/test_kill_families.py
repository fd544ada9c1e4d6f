"""SIGKILL for the runner after each write of a parent with two children: each child is there once, and its work too."""

from __future__ import annotations

import pytest
from crashes import Trial, until
from killing_runner import Kill

WRITES = 20
"""At the least: how often the parent parks depends on which child is faster. A kill that never comes is no harm."""


@pytest.mark.parametrize("write", range(1, WRITES + 1))
def test_a_family_whose_runner_is_killed_ends_as_if_nothing_had_been(write: int, trial: Trial) -> None:
    exec_id = trial.invoke("whole")
    first = trial.start_killing_runner(exec_id, Kill(write, "runner", "after"))

    def step() -> bool:
        if not first.is_alive() and len(trial.forked) == 1:
            trial.start_killing_runner(exec_id)
        return trial.client.executions.status(exec_id) in ("completed", "failed")

    until(step, what=f"ended: {exec_id}")
    whole = trial.client.executions.get(exec_id)

    assert (whole.status, whole.result) == ("completed", [30, 10, 20]), f"{whole.error}\n{trial.writes()}"
    assert [(child.key, child.status) for child in whole.children] == [("half", "completed"), ("half#2", "completed")]
    assert sorted(row.key for row in trial.rows(exec_id) if row.kind in "xcw") == [
        "half", "half#2", "wait:half", "wait:half#2", "work",
    ]  # fmt: skip
    for number, one in enumerate((*(child.exec_id for child in whole.children), exec_id), start=1):
        (recorded,) = [row for row in trial.rows(one) if row.kind == "c"]
        assert trial.begun(f"work{number}")[-1].nonce == recorded.nonce, "it was executed again after it was recorded"
