"""How a process of `runtime="isolated"` ends: by itself, by its timeout, or with its caller."""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from attempts import TestExecution

from kitaru import (
    KitaruCrashError,
    KitaruTimeoutError,
    checkpoint,
)
from kitaru_runner.engine.body.body import run_body
from kitaru_runner.values.failures import ExecutionCancelled

PATIENCE_SECONDS = 20


@checkpoint
def plain(number: int) -> int:
    return number


def ends(how: str, log_of_tries: str = "") -> str:
    """Ends its process, unless it was tried before."""
    path = Path(log_of_tries)
    tries = len(path.read_text()) if log_of_tries and path.exists() else 0
    if log_of_tries:
        path.write_text("x" * (tries + 1))
    if tries:
        return "survived"
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "SIGSEGV":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(3)
    elif how == "sys.exit":
        sys.exit(3)
    return "went on"


end_and_retry = checkpoint(runtime="isolated", retries=1)(ends)

CRASHES = {
    "SIGKILL": "was killed by SIGKILL",
    "SIGSEGV": "was killed by SIGSEGV",
    "exit": "ended with exit code 3",
    "sys.exit": "ended with exit code 3",
}


# Its end


@pytest.mark.parametrize(("how", "said"), CRASHES.items())
def test_a_process_that_dies_is_a_failure_that_says_how(execution: TestExecution, how: str, said: str) -> None:
    def body() -> list[Any]:
        try:
            checkpoint(runtime="isolated")(ends)(how)
        except KitaruCrashError as error:
            plain(1)
            return [error.message, error.signal, error.exit_status]
        return []

    execution.attempt(body, writes=1)
    execution.attempt(body)

    message, name, status = execution.result
    assert message == f"the process of checkpoint ends {said}"
    assert (name, status) == ((how, None) if how.startswith("SIG") else (None, 3))
    assert [row.kind for row in execution.rows] == ["c", "c"]


@pytest.mark.parametrize("how", CRASHES)
def test_a_process_that_dies_is_tried_again(execution: TestExecution, tmp_path: Path, how: str) -> None:
    execution.attempt(lambda: end_and_retry(how, str(tmp_path / "tries")))

    assert execution.result == "survived"
    assert [(row.kind, row.tries) for row in execution.rows] == [("t", 1), ("c", 2)]


@checkpoint(runtime="isolated", timeout=1)
def stand_still(folder: Path) -> None:
    """With a process of its own, in a call that no exception can end."""
    inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    (folder / "new").write_text(f"{os.getpid()} {inner.pid}")
    (folder / "new").rename(folder / "pids")
    while True:
        time.sleep(1000)


@checkpoint(runtime="isolated")
def stand_still_for_ever(folder: Path) -> None:
    stand_still.function(folder)


@checkpoint(runtime="isolated")
async def stand_still_async(folder: Path) -> None:
    stand_still.function(folder)


def has_ended(pid: int) -> bool:
    """Polled for a moment: a process that was killed may still be dying."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(PATIENCE_SECONDS * 1000))
    finally:
        os.close(descriptor)


def all_ended(folder: Path) -> bool:
    pids = [int(pid) for pid in (folder / "pids").read_text().split()]
    return len(pids) == 2 and all(has_ended(pid) for pid in pids)


def until_there(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.005)


def test_its_timeout_kills_it_and_what_it_started(execution: TestExecution, tmp_path: Path) -> None:
    def body() -> str:
        try:
            stand_still(tmp_path)
        except KitaruTimeoutError as error:
            return error.message
        return ""

    execution.attempt(body)

    assert execution.result == "checkpoint stand_still took longer than its timeout of 1 s"
    assert all_ended(tmp_path)


def test_a_caller_that_gives_up_kills_it(execution: TestExecution, tmp_path: Path) -> None:
    async def body() -> str:
        task = asyncio.create_task(given_up(tmp_path))
        await asyncio.to_thread(until_there, tmp_path / "pids")
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "given up"
        return ""

    async def given_up(folder: Path) -> None:
        await stand_still_async(folder)

    execution.attempt(body)

    assert execution.result == "given up"
    assert all_ended(tmp_path)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_attempt_that_is_halted_kills_it(execution: TestExecution, tmp_path: Path, asynchronous: bool) -> None:
    attempt, _, _ = execution.begin()

    def body() -> None:
        stand_still_for_ever(tmp_path)

    async def body_async() -> None:
        await stand_still_async(tmp_path)

    def cancel() -> None:
        until_there(tmp_path / "pids")
        attempt.halt(ExecutionCancelled())

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(ExecutionCancelled):
        run_body(attempt, body_async if asynchronous else body, {})
    canceller.join()

    assert execution.rows == []
    assert all_ended(tmp_path)


def test_one_that_its_flow_leaves_behind_ends_with_the_flow(execution: TestExecution, tmp_path: Path) -> None:
    def body() -> str:
        stand_still_for_ever.submit(tmp_path)
        until_there(tmp_path / "pids")
        return "ended"

    execution.attempt(body)

    assert execution.result == "ended"
    assert all_ended(tmp_path)
