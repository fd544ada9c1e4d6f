"""Kills at random moments, among flows with pools, daemons, threads and large values: 0 lost, twice, wrong or stuck."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from power import seeded
from storms import POLL_SECONDS, Record, Storm, faults_of, query

from kitaru_registry.home import Home
from kitaru_runner.child.loader import import_file

KILLS = int(os.environ.get("KILLS", "300"))
PATIENCE_SECONDS = 60.0
PROJECT = Path(__file__).parent / "project"
SMALL = "-small"

Faults = Callable[[Record], list[str]]


@pytest.fixture(scope="module")
def flows() -> Iterator[Any]:
    yield import_file("storm", PROJECT / "storm.py")
    del sys.modules["storm"]


@pytest.fixture(scope="module")
def storm(
    stormy: Home, tmp_path_factory: pytest.TempPathFactory, kitaru_executable: Path, flows: Any
) -> Iterator[Storm]:
    """What has been through it."""
    folder = tmp_path_factory.mktemp("storm")
    storm = Storm(stormy, folder, kitaru_executable, seeded(0), flows.answer_to)
    storm.trace.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOAK_TRACE", str(storm.trace))
        try:
            storm.rage(KILLS)
            yield storm
        finally:
            storm.end()


@pytest.fixture(scope="module")
def record(storm: Storm) -> Record:
    return Record.of(storm.home, storm.trace, storm.invoked)


@pytest.fixture(scope="module")
def faults(storm: Storm, flows: Any) -> Faults:
    expected = {seed: flows.expected(seed) for seed in storm.invoked}
    return lambda record: faults_of(record, expected, beside=flows.NOT_CHECKPOINTS)


def test_nothing_is_lost_twice_wrong_or_stuck(storm: Storm, record: Record, faults: Faults) -> None:
    assert faults(record) == [], "\n".join(storm.told)
    assert storm.kills == KILLS
    assert query(storm.home, "PRAGMA integrity_check") == [("ok",)]


def test_no_process_is_left_and_every_slot_is_free(storm: Storm) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while storm.held() or any("kitaru_runner --local" not in process.command for process in storm.living()):
        assert time.monotonic() < deadline, f"{storm.held()} {storm.living()}\n" + "\n".join(storm.told)
        time.sleep(POLL_SECONDS)
    assert [state.executions for state in storm.client.runner.list()] in ([], [()])


# The same, where it must fail: a judge that finds nothing in any record would prove nothing.


@pytest.fixture(scope="module")
def found(record: Record, faults: Faults) -> Faults:
    """What the judge finds in a changed record that it did not find before."""
    before = faults(record)
    return lambda changed: [fault for fault in faults(changed) if fault not in before]


def line_of(record: Record, event: str) -> list[str]:
    """The last one of that kind, of a checkpoint that nothing is said of twice."""
    return [line for line in record.lines if line[0] == event and line[2].endswith(SMALL)][-1]


def without_row_of(record: Record, label: str) -> Record:
    return replace(record, rows=[row for row in record.rows if row.label != label])


def test_the_judge_sees_an_execution_after_the_outcome_had_come(record: Record, found: Faults) -> None:
    _, exec_id, label, _ = line_of(record, "got")

    seen = found(replace(record, lines=[*record.lines, ["begin", exec_id, label, "another"]]))

    assert seen == [f"twice: {label} was executed again after its outcome had come to the flow"]


def test_the_judge_sees_an_execution_after_the_record(record: Record, found: Faults) -> None:
    line = line_of(record, "begin")
    at = record.lines.index(line) + 1

    seen = found(replace(record, lines=[*record.lines[:at], [*line[:3], "another"], *record.lines[at:]]))

    assert seen == [f"twice: {line[2]} was executed again after its outcome was recorded, or by two at once"]


def test_the_judge_sees_what_is_not_recorded(record: Record, found: Faults) -> None:
    _, exec_id, label, _ = line_of(record, "got")

    seen = found(without_row_of(record, label))

    assert seen == [
        f"lost: the journal of {exec_id} has gaps",
        f"lost: the outcome of {label} is not recorded",
    ]


def test_the_judge_sees_a_second_outcome(record: Record, found: Faults) -> None:
    row = next(row for row in reversed(record.rows) if row.kind == "c")
    last = max(other.seq for other in record.rows if other.execution == row.execution)

    seen = found(replace(record, rows=[*record.rows, replace(row, seq=last + 1)]))

    assert seen == [f"twice: {row.key} of {row.execution} has two outcomes"]


def test_the_judge_sees_another_value(record: Record, found: Faults) -> None:
    line = line_of(record, "got")

    seen = found(replace(record, lines=[*record.lines, [*line[:3], "another"]]))

    assert [one.partition(" came as")[0] for one in seen] == [f"wrong: {line[2]}"]


def test_the_judge_sees_another_result_and_an_execution_that_has_not_ended(record: Record, found: Faults) -> None:
    seed = next(iter(record.results))
    exec_id, flow, _ = record.executions[0]
    running = [(exec_id, flow, "running"), *record.executions[1:]]

    seen = found(replace(record, results={**record.results, seed: {}}, executions=running))

    assert seen == [f"stuck: {flow} {exec_id} is running", f"wrong: the result of seed {seed}"]
