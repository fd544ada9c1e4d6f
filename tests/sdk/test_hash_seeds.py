"""Sets of texts come in the same order in each attempt, also from source; where they cannot, no outcome is swapped."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kitaru import KitaruDivergenceError, checkpoint, flow, testing
from kitaru.hash_seeds import secret_of

if TYPE_CHECKING:
    from tests.sdk.conftest import Project

TOPICS = """
import signal

@checkpoint
def rank(topic: str) -> str:
    return f"rank of {topic}"

@checkpoint
def fall_once() -> None:
    if not Path("fallen").exists():
        Path("fallen").touch()
        os.kill(os.getpid(), signal.SIGKILL)

@flow
def topics() -> list[str]:
    found = [f"{topic}: {rank(topic)}" for topic in {f"topic-{n}" for n in range(12)}]
    fall_once()
    return found

if __name__ == "__main__":
    topics.run().wait()
"""
RIGHT = {f"topic-{n}: rank of topic-{n}" for n in range(12)}
TELL = "from kitaru.hash_seeds import hash_seed; print(hash_seed())"


@pytest.fixture
def seed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    return monkeypatch


def test_kitaru_run_has_the_seed_that_it_has_when_it_is_resumed(project: Project, seed: pytest.MonkeyPatch) -> None:
    project.write(TOPICS)
    project.kitaru("run", "flows.py:topics")
    fallen = project.only_execution()

    assert fallen.source is not None
    assert fallen.source.hash_seed == 0
    assert set(project.client.executions.resume(fallen.exec_id).wait(60)) == RIGHT


def test_a_script_goes_on_with_the_seed_that_it_was_given(project: Project, seed: pytest.MonkeyPatch) -> None:
    seed.setenv("PYTHONHASHSEED", "7")
    project.write(TOPICS)
    project.start("flows.py").wait(60)
    seed.setenv("PYTHONHASHSEED", "8")
    fallen = project.only_execution()

    assert set(project.client.executions.resume(fallen.exec_id).wait(60)) == RIGHT


def test_a_script_with_a_seed_at_random_gets_no_other_s_outcome(project: Project, seed: pytest.MonkeyPatch) -> None:
    project.write(TOPICS)
    project.start("flows.py").wait(60)
    fallen = project.only_execution()

    assert fallen.source is not None
    assert fallen.source.hash_seed is None
    with pytest.raises(KitaruDivergenceError, match=r"is called with what rank.* was recorded with"):
        project.client.executions.resume(fallen.exec_id).wait(60)
    error = project.only_execution().error
    assert error is not None
    assert error.hint is not None
    assert "sort what a set gives" in error.hint


@pytest.mark.parametrize(
    ("options", "said", "told"),
    [
        ([], "0", "0"), ([], "12345", "12345"), ([], "random", "None"), ([], None, "None"),
        (["-R"], "7", "None"), (["-E"], "7", "None"),
    ],
)  # fmt: skip
def test_the_seed_of_a_process_is_what_it_hashes_with(options: list[str], said: str | None, told: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONHASHSEED"} | (
        {"PYTHONHASHSEED": said} if said else {}
    )
    done = subprocess.run([sys.executable, *options, "-c", TELL], env=environment, capture_output=True, text=True)

    assert (done.stdout.strip(), done.stderr) == (told, "")


def test_a_secret_is_that_of_one_seed() -> None:
    assert len({secret_of(seed) for seed in range(1000)}) == 1000


@pytest.mark.parametrize("crash", [3, 4, 5])
@pytest.mark.parametrize("way", ["plain", "awaited", "submitted"])
def test_no_call_gets_what_another_was_recorded_with(crash: int, way: str) -> None:
    names = ["a", "b", "c", "d"]

    @checkpoint
    def upper(name: str) -> str:
        return name.upper()

    @checkpoint
    async def upper_soon(name: str) -> str:
        return name.upper()

    @flow
    def plain() -> list[str]:
        names.reverse()
        return [upper(name) for name in names]

    @flow
    async def awaited() -> list[str]:
        names.reverse()
        return [await upper_soon(name) for name in names]

    @flow
    def submitted() -> list[str]:
        names.reverse()
        return [future.result() for future in upper.map(names)]

    outcome = testing.run({"plain": plain, "awaited": awaited, "submitted": submitted}[way], crash_at=crash)

    assert isinstance(outcome.error, KitaruDivergenceError)
    assert "was recorded with" in str(outcome.error)
