"""A process that user code forks while an execution runs: it has no part in the execution, and ends by itself."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attempts import TestExecution

from kitaru import KitaruBackendError, KitaruContextError, checkpoint, current_execution_id, load, log, now, save, wait
from kitaru_registry.clock import now_us
from kitaru_registry.journal.entries import Entry
from kitaru_runner.host.locks import FileLock, is_held
from kitaru_runner.values import codec
from kitaru_runner.values.failures import describe_failure

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")

ENDS: dict[str, tuple[Callable[[], object], int]] = {
    "returns": (lambda: "the fork's", 0),
    "sys.exit(0)": (lambda: sys.exit(0), 0),
    "sys.exit(3)": (lambda: sys.exit(3), 3),
    "sys.exit(text)": (lambda: sys.exit("broken"), 1),
    "raises": (lambda: 1 / 0, 1),
    "KeyboardInterrupt": (lambda: throw(KeyboardInterrupt()), 1),
}


def throw(error: BaseException) -> object:
    raise error


def forked(end: Callable[[], object]) -> object:
    """In the fork what `end` makes of it; in its parent how that ended."""
    process = os.fork()
    if process == 0:
        return end()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@checkpoint
def fork_in_checkpoint(how: str) -> object:
    return forked(ENDS[how][0])


@checkpoint(timeout=60)
def fork_in_time(how: str) -> object:
    return forked(ENDS[how][0])


@checkpoint
async def fork_in_coroutine(how: str) -> object:
    return forked(ENDS[how][0])


@checkpoint(runtime="isolated")
def fork_in_isolation(how: str) -> object:
    return forked(ENDS[how][0])


async def await_forking(how: str) -> object:
    return await fork_in_coroutine(how)


async def fork_on_loop(how: str) -> object:
    await asyncio.sleep(0)
    return forked(ENDS[how][0])


PLACES: dict[str, Callable[[str], Any]] = {
    "checkpoint": fork_in_checkpoint,
    "timed checkpoint": fork_in_time,
    "submitted checkpoint": lambda how: fork_in_checkpoint.submit(how).result(),
    "isolated checkpoint": fork_in_isolation,
    "body": lambda how: forked(ENDS[how][0]),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_fork_that_comes_to_its_end_ends_alone(execution: TestExecution, place: str, how: str) -> None:
    execution.attempt(lambda: PLACES[place](how))

    assert execution.result == ENDS[how][1]
    assert [row.kind for row in execution.rows] == ([] if place == "body" else ["c"])


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("place", [await_forking, fork_on_loop])
def test_a_fork_of_a_loop_ends_alone(execution: TestExecution, place: Callable[..., Any], how: str) -> None:
    async def body() -> object:
        return await place(how)

    execution.attempt(body)

    assert execution.result == ENDS[how][1]


def in_fork(ask: Callable[[], object]) -> str:
    """What comes of asking in a fork: the error's text."""
    read_end, write_end = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            said = f"gave {ask()!r}"
        except KitaruContextError as error:
            said = error.message
        except BaseException as error:
            said = repr(error)
        os.write(write_end, pickle.dumps(said))
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        said = pickle.load(pipe)
    os.waitpid(process, 0)
    return str(said)


@checkpoint
def plain(number: int) -> int:
    return number


@checkpoint
async def plain_async(number: int) -> int:
    return number


IN_BODY: dict[str, Callable[[], object]] = {
    "checkpoint plain": lambda: plain(1),
    "checkpoint plain ": lambda: plain.submit(1),
    "now()": now,
    "log()": lambda: log(a=1),
    "save('a')": lambda: save("a", 1),
    "go": lambda: wait(name="go", schema=bool),
    "Kitaru": lambda: load("e-1", "a"),
}
IN_CHECKPOINT = ("checkpoint plain", "checkpoint plain ", "log()", "save('a')", "Kitaru")


@pytest.mark.parametrize("what", IN_BODY)
def test_kitaru_called_in_a_fork_of_the_body_is_one_clear_error(execution: TestExecution, what: str) -> None:
    execution.attempt(lambda: in_fork(IN_BODY[what]))

    assert execution.result.startswith(f"{what.rstrip()} was called in process ")
    assert "forked from the flow's" in execution.result
    assert execution.rows == []


@pytest.mark.parametrize("what", IN_CHECKPOINT)
@pytest.mark.parametrize("isolated", [False, True])
def test_kitaru_called_in_a_fork_of_a_checkpoint_is_one_clear_error(
    execution: TestExecution, what: str, isolated: bool
) -> None:
    execution.attempt(lambda: (ask_isolated if isolated else ask)(what))

    assert execution.result.startswith(f"{what.rstrip()} was called in process ")
    assert "forked from the flow's" in execution.result


@checkpoint
def ask(what: str) -> str:
    return in_fork(IN_BODY[what])


@checkpoint(runtime="isolated")
def ask_isolated(what: str) -> str:
    return in_fork(IN_BODY[what])


def test_a_coroutine_of_a_fork_that_calls_a_checkpoint_is_told(execution: TestExecution) -> None:
    async def body() -> str:
        return in_fork(lambda: plain_async(1).send(None))

    execution.attempt(body)

    assert execution.result.startswith("checkpoint plain_async was called in process ")


def test_a_fork_still_knows_whose_it_is(execution: TestExecution) -> None:
    execution.attempt(lambda: in_fork(current_execution_id))

    assert execution.result == f"gave {execution.exec_id!r}"


def test_a_fork_holds_no_lock_of_its_parents(tmp_path: Path) -> None:
    lock = FileLock.acquire(tmp_path / "lock")
    assert lock is not None
    fork = StandingFork()

    lock.release()

    assert not is_held(tmp_path / "lock")
    fork.end()


class StandingFork:
    """A fork of this process that stands still until `end`."""

    def __init__(self) -> None:
        ready, self._until = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._until[1])
            os.write(ready[1], b"x")
            os.read(self._until[0], 1)
            os._exit(0)
        os.close(self._until[0])
        os.read(ready[0], 1)
        for end in ready:
            os.close(end)

    def end(self) -> None:
        os.close(self._until[1])
        os.waitpid(self.pid, 0)


def outcome(value: object, *, error: dict[str, Any] | None = None) -> Entry:
    return Entry("c", "charge", now_us(), value=None if error else codec.encode(value), error=error)


@pytest.mark.parametrize("together", [True, False])
def test_a_second_outcome_of_a_call_is_refused_and_the_first_stays(execution: TestExecution, together: bool) -> None:
    _, attempt, _ = execution.begin()
    first, second = outcome("by the flow"), outcome("by a copy of it")
    if not together:
        attempt.journal.record([first])

    with pytest.raises(KitaruBackendError, match="charge has its outcome already; a second one was refused"):
        attempt.journal.record([first, second] if together else [second])

    assert execution.outcomes == ({} if together else {"charge": "by the flow"})
    attempt.journal.record([Entry("c", "refund", now_us(), value=codec.encode(1))])
    assert "refund" in execution.outcomes


def test_that_its_caller_had_given_up_is_no_second_outcome(execution: TestExecution) -> None:
    _, attempt, _ = execution.begin()
    attempt.journal.record([outcome("too late")])

    attempt.journal.record([outcome(None, error=describe_failure(asyncio.CancelledError()))])

    assert execution.keys == ["charge", "charge"]
