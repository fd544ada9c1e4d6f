"""What the machine lacks is not the execution's fault: it stays pending, says why, and goes on when that is mended."""

from __future__ import annotations

import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from crashes import Trial, until

from kitaru_registry.canonical import hex_of
from kitaru_registry.executions import queue
from kitaru_registry.models import ExecutionId

# Each thread of the runner has some reads of the database, and a few in a row that fail.
READS_FAIL = ["strace", "-D", "-f", "-q", "-e", "trace=pread64", "-e", "inject=pread64:error=EIO:when=40+3"]


@pytest.fixture
def own_store(trial: Trial) -> Trial:
    """With a store that is not shared with other tests."""
    shared = trial.home.layout.resolve()
    trial.home.layout.unlink()
    shutil.copytree(shared, trial.home.layout)
    return trial


def take_away(path: Path) -> Callable[[], object]:
    """It is gone; what is returned brings it back."""
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    return lambda: aside.rename(path)


def manifest_of(trial: Trial, flow: str) -> Path:
    """Each flow has its own; the code is the same."""
    return trial.home.layout / "blobs" / "sha256" / hex_of(trial.client.deployments.get(flow=flow).digest)


def reason(trial: Trial, exec_id: ExecutionId) -> str | None:
    return queue.fault_of(trial.client.database, exec_id)


def check_it_completed_at_its_first_attempt(trial: Trial, exec_id: ExecutionId) -> None:
    execution = trial.ended(exec_id)
    assert (execution.status, execution.attempt) == ("completed", 1), execution.error


def test_what_is_missing_in_the_store_is_waited_for_and_starves_nobody(own_store: Trial) -> None:
    trial = own_store
    bring_back = take_away(manifest_of(trial, "hoarding"))
    stuck = [trial.invoke("hoarding", steps=1, size=1) for _ in range(30)]
    runner = trial.start_runner("--max-executions", "1")

    said = until(lambda: reason(trial, stuck[-1]), what="told why")
    assert "there is no blob" in said
    assert "restore that blob" in said
    trial.gate.touch()
    check_it_completed_at_its_first_attempt(trial, trial.invoke("gated"))

    bring_back()
    for exec_id in stuck:
        check_it_completed_at_its_first_attempt(trial, exec_id)
    assert runner.poll() is None


def test_a_runner_with_too_few_descriptors_fails_nothing(trial: Trial) -> None:
    few = [sys.executable, "-c", FEW_DESCRIPTORS]
    exec_ids = [trial.invoke("whole") for _ in range(6)]
    runner = trial.start_runner(behind=few)

    until(lambda: any(reason(trial, exec_id) for exec_id in exec_ids) or None, what="one has to wait")
    resource.prlimit(runner.pid, resource.RLIMIT_NOFILE, (1024, 1024))

    for exec_id in exec_ids:
        assert trial.ended(exec_id).status == "completed"
    assert runner.poll() is None


FEW_DESCRIPTORS = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 1024))
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_runner_survives_reads_that_fail(trial: Trial) -> None:
    runner = trial.start_runner(behind=[*READS_FAIL, "-P", str(trial.home.database)])

    for _ in range(3):
        assert trial.ended(trial.invoke("whole")).status == "completed"

    assert runner.poll() is None
    assert "(INJECTED)" in (trial.folder / "runner.log").read_text()
