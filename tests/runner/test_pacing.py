"""Threads of submitted checkpoints, which nobody waits for to begin, and the order in which their outcomes act."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest
from attempts import PATIENCE_SECONDS, TestExecution
from hypothesis import given
from hypothesis import strategies as st

from kitaru import checkpoint
from kitaru_runner.engine.core.order import Turnstile

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
from kitaru_runner.engine.core.pace import MACHINE

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


@given(st.permutations([(6, 7), (8, 8), (9, 11), (12, 12), (13, 13)]))
def test_acts_come_in_order_however_their_holders_come(spans: list[tuple[int, int]]) -> None:
    acted: list[int] = []
    turnstile = Turnstile(5)

    for first, last in spans:
        turnstile.pass_through(first, last, acted.append)

    assert acted == [7, 8, 11, 12, 13]
    turnstile.wait_for(13)


def test_who_waits_for_a_number_waits_for_all_before_it() -> None:
    turnstile = Turnstile(0)
    acted: list[int] = []
    found: list[list[int]] = []
    turnstile.pass_through(2, 2, acted.append)

    def wait() -> None:
        turnstile.wait_for(2)
        found.append(list(acted))

    waiting = threading.Thread(target=wait)
    waiting.start()
    turnstile.pass_through(1, 1, acted.append)
    waiting.join(PATIENCE_SECONDS)

    assert found == [[1, 2]]
