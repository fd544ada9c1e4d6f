"""Threads of submitted checkpoints, which nobody waits for to begin."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest
from attempts import PATIENCE_SECONDS, TestExecution

from kitaru import checkpoint

seen: list[threading.Thread] = []


@checkpoint
def thread_name(number: int) -> str:
    thread = threading.current_thread()
    assert thread in threading.enumerate()
    assert thread.ident == threading.get_ident()
    seen.append(thread)
    logging.getLogger("flow").warning("step %d", number)
    return f"{thread.name} {thread.daemon}"


def test_a_submitted_checkpoint_executes_in_a_thread_like_any_other(
    execution: TestExecution, caplog: pytest.LogCaptureFixture
) -> None:
    seen.clear()

    execution.attempt(lambda: [future.result() for future in thread_name.map(range(20))])

    assert execution.result == ["kitaru-checkpoint False"] * 20
    assert {record.threadName for record in caplog.records if record.name == "flow"} == {"kitaru-checkpoint"}
    for thread in seen:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


OUTLIVES = """
import threading
from kitaru_runner.pacing import MACHINE

begun = threading.Event()

def run():
    begun.set()
    threading.main_thread().join()
    print("went on", flush=True)

MACHINE.start_unawaited(run, "kitaru-checkpoint")
begun.wait()
"""


def test_a_process_does_not_end_before_a_checkpoint_that_has_begun() -> None:
    done = subprocess.run([sys.executable, "-c", OUTLIVES], capture_output=True, text=True, timeout=PATIENCE_SECONDS)

    assert (done.stdout, done.stderr, done.returncode) == ("went on\n", "", 0)
