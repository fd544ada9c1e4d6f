"""A runner that is drained begins nothing more, lets what is in flight end, and leaves the rest to the next."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from crashes import PATIENCE_SECONDS, Trial, at_gate, until

from kitaru_registry.journal.entries import Entry
from kitaru_runner.host import presence
from kitaru_runner.host.draining import Draining

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def test_a_call_in_flight_ends_and_is_recorded_and_its_execution_goes_on_elsewhere(trial: Trial) -> None:
    runner = trial.start_runner("--local")
    exec_id = trial.invoke("gated")
    at_gate(trial, 1)

    runner.send_signal(signal.SIGUSR1)
    later = trial.invoke("gated")
    assert trial.client.executions.status(exec_id) == "running"
    trial.gate.touch()
    assert runner.wait(PATIENCE_SECONDS) == 0

    assert [row.key for row in trial.rows(exec_id)] == ["pass_gate"]
    execution = trial.client.executions.get(exec_id)
    assert (execution.status, execution.attempt) == ("pending", 1)
    assert trial.client.executions.get(later).attempt == 0
    trial.start_runner()
    assert [trial.ended(found).status for found in (exec_id, later)] == ["completed", "completed"]
    assert len(trial.begun("pass_gate")) == 2


def test_one_that_has_nothing_in_flight_ends_at_once_and_is_not_started_by_a_look(trial: Trial) -> None:
    runner = trial.start_runner("--local", "--idle-seconds", "1000")
    presence.wait_for_runner(trial.home)

    trial.client.runner.drain(timeout=PATIENCE_SECONDS)

    assert runner.wait(PATIENCE_SECONDS) == 0
    assert presence.was_stopped(trial.home)


def test_what_is_called_within_a_call_in_flight_is_answered() -> None:
    outer, other = ({"key": key, "tries": 1} for key in ("outer", "other"))
    draining = Draining()

    assert not draining.holds([Entry("c", "outer/inner", 1)], [outer])
    assert not draining.holds([Entry("l", "outer", 1)], [outer])
    assert draining.holds([Entry("c", "other", 1)], [outer, other])
    assert not draining.is_at_rest([outer, other])
    assert draining.holds([Entry("t", "outer", 1, tries=1)], [outer, other])
    assert draining.is_at_rest([outer, other])


def test_the_unit_of_the_documentation_starts_a_runner(trial: Trial) -> None:
    unit = dict(re.findall(r"^(\w+)=(.*)$", OPERATIONS.read_text(), re.M))
    installed, *rest = unit["ExecStart"].split()
    assert installed == "%h/.local/bin/kitaru"
    program = [str(Path(sys.executable).with_name("kitaru")), *rest]
    with (trial.folder / "runner.log").open("ab") as log:
        runner = subprocess.Popen(
            program, cwd=trial.project, env={**os.environ, "KITARU_HOME": str(trial.home.root)},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    trial.spawned.append(runner)
    assert until(lambda: presence.list_runners(trial.home), what="there")[0].pid == runner.pid

    runner.send_signal(getattr(signal, unit["KillSignal"]))

    assert runner.wait(PATIENCE_SECONDS) == 0
