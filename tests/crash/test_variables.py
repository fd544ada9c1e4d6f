"""Declared variables come with the command that makes the work, in memory alone; what lacks one is waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from crashes import Trial, until

from kitaru_registry.executions import queue
from kitaru_registry.home import Home
from kitaru_runner.host.variables import Door, Variables, hand_over


@pytest.fixture
def runner_without(trial: Trial) -> Trial:
    """With a runner that has none of the variables that the flows declare."""
    trial.start_runner("--local", behind=["env", "-u", "CRASH_TRACE"])
    until(lambda: trial.client.runner.list(), what="there")
    return trial


def given(trial: Trial, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    """What the next command has."""
    trace = trial.folder / name
    monkeypatch.setenv("CRASH_TRACE", str(trace))
    return trace


def test_each_execution_has_those_of_the_command_that_made_it(
    runner_without: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = runner_without
    traces = [given(trial, monkeypatch, name) for name in ("one", "two")]
    exec_ids = []
    for trace in traces:
        monkeypatch.setenv("CRASH_TRACE", str(trace))
        exec_ids.append(trial.invoke("hoarding", steps=1, size=1))

    assert [trial.ended(exec_id).status for exec_id in exec_ids] == ["completed", "completed"]
    assert [trace.read_text().count("begin hoard-0") for trace in traces] == [1, 1]


def test_a_child_execution_has_those_of_its_parent(runner_without: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = given(runner_without, monkeypatch, "one")

    assert runner_without.ended(runner_without.invoke("whole")).status == "completed"
    assert trace.read_text().count("begin work2") == 1


def test_no_value_is_in_any_file_of_the_home(runner_without: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = given(runner_without, monkeypatch, "s3cret-value")
    assert runner_without.ended(runner_without.invoke("hoarding", steps=1, size=1)).status == "completed"
    assert trace.exists()

    for folder, _, files in os.walk(runner_without.home.root):
        for name in files:
            path = Path(folder) / name
            assert not path.is_file() or b"s3cret-value" not in path.read_bytes(), path


def test_a_later_runner_without_them_waits_and_resume_brings_them(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = given(trial, monkeypatch, "one")
    exec_id = trial.invoke("hoarding", steps=1, size=1)
    monkeypatch.delenv("CRASH_TRACE")
    trial.start_runner("--local", behind=["env", "-u", "CRASH_TRACE"])

    said = until(lambda: queue.fault_of(trial.client.database, exec_id), what="told why")
    assert "it needs CRASH_TRACE" in said
    assert "CRASH_TRACE" in trial.client.runner.list()[0].lacks

    monkeypatch.setenv("CRASH_TRACE", str(trace))
    trial.client.executions.resume(exec_id)
    assert trial.ended(exec_id).status == "completed"
    assert trace.read_text().count("begin hoard-0") == 1


def test_one_that_its_maker_did_not_have_is_not_waited_for(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRASH_GATE", raising=False)
    trial.start_runner("--local")

    assert trial.ended(trial.invoke("hoarding", steps=1, size=1)).status == "completed"


def test_values_are_told_apart_by_execution_snapshot_and_flow(home: Home) -> None:
    home.runner.mkdir(mode=0o700)
    door, variables = Door(home, os.getpid()), Variables()

    assert hand_over(home, ("a", "sha256:1", "p/f"), {"KEY": "old" * 30_000})
    assert hand_over(home, ("b", "sha256:2", "p/f"), {"KEY": "new"})
    assert door.receive(variables)
    door.close()

    whose = (("a",), ("b",), ("c", "sha256:1"), ("c", "sha256:3", "p/f"))
    found = [variables.of(one, ["KEY"])["KEY"] for one in whose]
    assert found == ["old" * 30_000, "new", "old" * 30_000, "new"]
    assert not variables.of(("c", "sha256:3", "p/other"), ["KEY"])
    assert not hand_over(home, ("a", "", ""), {"KEY": "x"})
