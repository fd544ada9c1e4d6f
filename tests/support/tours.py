"""The flow `tour` of tests/crash/project: its writes, who may be killed at them, and what must hold afterwards."""

from __future__ import annotations

from multiprocessing.process import BaseProcess
from signal import SIGKILL
from typing import get_args

from crashes import ENDS, Trial, check_no_recorded_try_executed_again, check_processes_take_turns, until
from killing_runner import Kill, Moment, Victim

from kitaru_registry.models import ExecutionId

WRITES = (
    "claim",
    "c:plan",
    *["c:map[.]/research"] * 4,
    "t:weigh",
    "c:weigh",
    "open wait",
    "park",
    "claim",
    "open wait",  # finds the answer
    "w:approve",
    *["c:submit[.]/..."] * 2,
    "c:publish",
    "c:announce",
    "finish",
)
CHECKPOINTS = {
    "plan", *(f"map[{number}]/research" for number in range(4)), "weigh", "submit[0]/draft", "submit[1]/check",
    "publish", "announce",
}  # fmt: skip
RESULT = "published: 35000 characters, 32 in all"

# A claim comes before its child.
KILLS = [
    Kill(number, victim, moment)
    for number, what in enumerate(WRITES, start=1)
    for victim in get_args(Victim)
    for moment in get_args(Moment)
    if what != "claim" or victim == "runner"
]


def go_through(trial: Trial, exec_id: ExecutionId, *, successor_of: BaseProcess | None = None) -> None:
    """Answer the wait when it is reached, start a successor when the first runner is dead, until all has ended."""
    client, answered, succeeded = trial.client, False, False

    def step() -> bool:
        nonlocal answered, succeeded
        status = client.executions.status(exec_id)
        if successor_of is not None and not succeeded and not successor_of.is_alive():
            succeeded = True
            trial.start_killing_runner(exec_id)
        if status == "waiting" and not answered:
            answered = True
            client.executions.input(exec_id, value=True)
        return status in ENDS

    until(step, what=f"ended: {exec_id}")


def check(trial: Trial, exec_id: ExecutionId, kill: Kill | None = None) -> None:
    lines, rows = trial.lines(), trial.rows(exec_id)
    execution = trial.client.executions.get(exec_id)
    told = f"{execution.error}\n{trial.writes()}\n{trial.client.executions.logs(exec_id)}"

    assert execution.status == "completed", told
    assert execution.result == RESULT
    assert {row.key for row in rows if row.kind == "c"} == CHECKPOINTS
    assert [row.key for row in rows if row.kind == "w"] == ["approve"]
    assert [name for (name,) in trial.sql("SELECT name FROM artifacts")] == ["outline"]
    check_no_recorded_try_executed_again(lines, rows)
    check_processes_take_turns(lines, rows)

    # The execution may have ended at the very write whose runner is about to be killed.
    until(lambda: trial.kills() == ([kill.victim] if kill else []), what=f"killed: {kill}")
    if kill and kill.victim != "child":
        until(
            lambda: [process.exitcode for process in trial.forked if not process.is_alive()] == [-SIGKILL], what="dead"
        )
