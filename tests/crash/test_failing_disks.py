"""Disks that are full, or that fail: a checkpoint that cannot be recorded is not done, and its flow hears nothing.

The attempt ends there and says why; the execution goes on when the disk can be written again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from crashes import ENDS, Template, Trial, until

from kitaru_registry.errors import KitaruStateError
from kitaru_registry.models import ExecutionId

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own needs root; CI runs as root")

IN_THE_ROW, IN_A_FILE = 15_000, 60_000
SYNCS = "fsync,fdatasync"
# Counted for each thread: of those that serve an execution, each can record one checkpoint, and no second one.
EVERY_SECOND_SYNC_FAILS = f"strace -D -f -q -e trace={SYNCS} -e inject={SYNCS}:error=EIO:when=2+2".split()


@pytest.fixture
def tiny_disk(template: Template, tmp_path: Path) -> Iterator[Trial]:
    """A home on a disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    home = Trial.copy(template, disk / "trial").home
    trial = Trial(home, template.project, tmp_path)
    yield trial
    trial.end_processes()
    subprocess.run(["umount", "--lazy", disk], check=True)


@as_root
@pytest.mark.parametrize("size", [IN_THE_ROW, IN_A_FILE])
def test_an_execution_that_fills_the_disk_goes_on_when_there_is_space(size: int, tiny_disk: Trial) -> None:
    trial, steps = tiny_disk, 2_000_000 // size
    runner = trial.start_runner()
    exec_id = trial.invoke("hoarding", steps=steps, size=size)

    said = until(lambda: reason(trial, exec_id), what="stopped by the full disk, and told of it")
    stopped_at = len(recorded(trial, exec_id))
    assert "disk" in said or "No space left" in said
    assert 1 < stopped_at == len(got(trial)) < steps
    subprocess.run(["mount", "-o", "remount,size=16m", trial.home.root.parents[1]], check=True)

    check_all_was_done_in_the_end(trial, exec_id, steps)
    assert runner.poll() is None, "the runner goes on"


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_an_execution_goes_on_when_every_second_sync_fails(trial: Trial) -> None:
    trial.start_runner(behind=EVERY_SECOND_SYNC_FAILS)
    exec_id = trial.invoke("hoarding", steps=3, size=1)

    check_all_was_done_in_the_end(trial, exec_id, 3)
    log = (trial.folder / "runner.log").read_text()
    assert "(INJECTED)" in log


def check_all_was_done_in_the_end(trial: Trial, exec_id: ExecutionId, steps: int) -> None:
    """Although the execution has to be resumed; and nothing that was recorded was done again."""

    def step() -> bool:
        status = trial.client.executions.status(exec_id)
        if status == "pending":
            with suppress(KitaruStateError):  # the runner was faster
                trial.client.executions.resume(exec_id)
        return status in ENDS

    until(step, what=f"ended: {exec_id}")
    execution = trial.client.executions.get(exec_id)
    assert (execution.status, execution.result) == ("completed", steps), execution.error
    assert recorded(trial, exec_id) == [f"hoard-{number}" for number in range(steps)]
    assert [line for line in trial.lines() if line.event == "heard"] == []
    first_got: dict[str, int] = {}
    for at, line in enumerate(trial.lines()):
        if line.event == "got":
            first_got.setdefault(line.key, at)
        assert line.event != "begin" or line.key not in first_got, f"{line.key} was executed again"


def reason(trial: Trial, exec_id: ExecutionId) -> str | None:
    """In the record; or in the runner's log, where not even this could be recorded."""
    ((found,),) = trial.sql("SELECT status_reason FROM executions WHERE exec_id = ?", exec_id)
    return str(found) if found is not None else (trial.folder / "runner.log").read_text() or None


def recorded(trial: Trial, exec_id: ExecutionId) -> list[str]:
    nonces = {line.nonce: line.key for line in trial.lines() if line.event == "begin"}
    return [nonces[row.nonce or ""] for row in trial.rows(exec_id)]


def got(trial: Trial) -> set[str]:
    return {line.key for line in trial.lines() if line.event == "got"}
