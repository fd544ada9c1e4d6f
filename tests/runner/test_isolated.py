"""`runtime="isolated"`: each try in a process of its own, which may die without the execution."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from attempts import Executions, TestExecution

from kitaru import (
    KitaruContextError,
    checkpoint,
    current_execution_id,
    load,
    log,
    now,
    save,
    sleep,
    wait,
)


@dataclass
class Order:
    item: str
    count: int

    @checkpoint(runtime="isolated")
    def priced(self, each: int) -> int:
        return self.count * each


@checkpoint(runtime="isolated")
def where(order: Order, *, suffix: str = "") -> dict[str, Any]:
    return {"pid": os.getpid(), "item": order.item + suffix, "folder": str(Path.cwd()), "set": os.environ.get("SET_BY")}


@checkpoint(runtime="isolated")
async def where_async(number: int) -> int:
    await asyncio.sleep(0)
    return number * os.getpid() // os.getpid()


@checkpoint(runtime="isolated")
def fail(word: str) -> None:
    log(said=word)
    raise FileNotFoundError(2, word)


@checkpoint
def plain(number: int) -> int:
    return number


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "own"
    made.mkdir()
    return made


# What goes over, and what comes back


def test_the_traceback_of_a_failure_begins_in_the_users_code(execution: TestExecution) -> None:
    execution.attempt(lambda: fail("lost"))

    error = execution.record.error
    assert error is not None
    assert error.traceback is not None
    assert error.traceback.splitlines()[1].startswith(f'  File "{__file__}", line {error.line}, in fail')


def test_an_argument_that_cannot_be_sent_there_fails_the_call_at_once(execution: TestExecution) -> None:
    execution.attempt(lambda: where(threading.Lock()))  # type: ignore[arg-type]  # that is the point

    error = execution.record.error
    assert error is not None
    assert error.message.startswith("where is isolated, and an argument cannot be sent to its process: no codec")
    assert error.hint == "pass plain data, and open files and connections inside of the checkpoint"


def test_it_executes_elsewhere_with_the_same_surroundings(
    execution: TestExecution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SET_BY", "parent")

    execution.attempt(lambda: where(Order("tea", 2), suffix="!"))

    seen = execution.result
    assert seen["pid"] != os.getpid()
    assert (seen["item"], seen["folder"], seen["set"]) == ("tea!", str(tmp_path), "parent")


def test_a_recorded_one_starts_no_process(execution: TestExecution) -> None:
    def body() -> list[Any]:
        return [where(Order("tea", 1)), plain(1)]

    execution.attempt(body, writes=1)
    (row,) = execution.rows
    execution.attempt(body)

    assert row.key == "where"
    assert execution.result[0] == execution.outcomes["where"]


def test_a_method_takes_its_object_along(execution: TestExecution) -> None:
    execution.attempt(lambda: Order("tea", 3).priced(4))

    assert execution.result == 12


def test_a_function_without_a_name_goes_over_by_value(execution: TestExecution) -> None:
    factor = 7

    @checkpoint(runtime="isolated")
    def scaled(number: int) -> int:
        return factor * number

    def body() -> list[int]:
        return [scaled(2), checkpoint(runtime="isolated")(lambda number: number + factor)(1)]

    execution.attempt(body)

    assert execution.result == [14, 8]


def test_a_function_that_cannot_go_over_fails_its_checkpoint_and_says_why(execution: TestExecution) -> None:
    lock = threading.Lock()

    @checkpoint(runtime="isolated", retries=3)
    def locked() -> bool:
        return lock.locked()

    execution.attempt(locked)

    error = execution.record.error
    assert error is not None
    assert (error.type, error.checkpoint) == ("KitaruUsageError", "locked")
    assert "its function cannot be sent to another process: cannot pickle" in error.message
    assert [row.kind for row in execution.rows] == ["c"]


def test_an_argument_that_no_codec_carries_fails_its_checkpoint(execution: TestExecution) -> None:
    @checkpoint(runtime="isolated")
    def use(given: Any) -> None: ...

    execution.attempt(lambda: use(threading.Lock()))

    error = execution.record.error
    assert error is not None
    assert (error.type, error.checkpoint) == ("KitaruUsageError", "use")


def test_a_value_that_no_codec_carries_fails_its_checkpoint_at_once(execution: TestExecution) -> None:
    @checkpoint(runtime="isolated", retries=3)
    def generate() -> Any:
        return (number for number in range(3))

    execution.attempt(generate)

    error = execution.record.error
    assert error is not None
    assert (error.type, error.checkpoint) == ("KitaruUsageError", "generate")
    assert [row.kind for row in execution.rows] == ["c"]


@pytest.mark.parametrize("writes", [None, 1])
def test_its_failure_is_raised_with_its_own_line(execution: TestExecution, writes: int | None) -> None:
    def body() -> str:
        try:
            fail("missing")
        except FileNotFoundError as error:
            plain(1)
            return f"{error.errno} {error.strerror}"
        return ""

    execution.attempt(body, writes=writes)
    if writes is not None:
        execution.attempt(body)

    assert execution.result == "2 missing"
    (call, _) = execution.record.checkpoints
    assert call.error is not None
    assert (call.error.file, call.error.line) == (__file__, fail.function.__code__.co_firstlineno + 3)
    assert call.metadata == {"said": "missing"}


def test_what_it_saves_and_logs_comes_with_its_outcome(execution: TestExecution) -> None:
    @checkpoint(runtime="isolated")
    def report(of: str) -> list[Any]:
        save("report", {"pages": 3}, type="context")
        log(tokens=12)
        return [load(of, "double"), current_execution_id(), now().tzinfo is not None]

    @checkpoint
    def double() -> int:
        return 2

    def body() -> Any:
        double()
        return [report(str(current_execution_id())), load(str(current_execution_id()), "report")]

    execution.attempt(body)

    assert execution.result == [[2, execution.exec_id, True], {"pages": 3}]
    assert execution.record.checkpoints[1].metadata == {"tokens": 12}


def test_a_load_that_fails_is_raised_there(execution: TestExecution) -> None:
    @checkpoint(runtime="isolated")
    def look(of: str) -> str:
        try:
            return str(load(of, "nothing"))
        except LookupError as error:
            return str(error)

    execution.attempt(lambda: look(str(current_execution_id())))

    assert "has no artifact nothing" in execution.result


def test_tries_are_processes_of_their_own(execution: TestExecution, folder: Path) -> None:
    @checkpoint(runtime="isolated", retries=2, retry_on=ConnectionError)
    def flaky(folder: Path) -> int:
        (folder / str(os.getpid())).touch()
        tries = len(list(folder.iterdir()))
        if tries < 3:
            raise ConnectionError(f"try {tries}")
        return tries

    execution.attempt(lambda: flaky(folder))

    assert execution.result == 3
    assert [(row.kind, row.tries) for row in execution.rows] == [("t", 1), ("t", 2), ("c", 3)]


# What it may not do


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: plain(1), "checkpoint plain was called inside checkpoint <lambda>"),
        (lambda: plain.submit(1), "checkpoint plain was called"),
        (lambda: plain.map([1]), "checkpoint plain was called"),
        (lambda: wait(name="approve", schema=bool), r"wait\(\) was called inside checkpoint"),
        (lambda: sleep(1), r"sleep\(\) was called inside checkpoint"),
    ],
)
def test_what_needs_the_journal_is_refused(execution: TestExecution, call: Any, said: str) -> None:
    with pytest.raises(KitaruContextError, match=said.replace("<lambda>", "lambda")):
        raise_of(execution, checkpoint(runtime="isolated")(call))


@pytest.mark.parametrize("asked", ["wait", "checkpoint"])
def test_what_needs_the_journal_is_refused_on_a_loop_too(execution: TestExecution, asked: str) -> None:
    @checkpoint(runtime="isolated")
    async def ask(asked: str) -> Any:
        return await (wait(name="approve") if asked == "wait" else where_async(1))

    async def body() -> Any:
        return await ask(asked)

    with pytest.raises(KitaruContextError, match="inside checkpoint ask"):
        raise_of(execution, body)


def raise_of(execution: TestExecution, body: Any) -> None:
    """Run an attempt, and raise what its body raised."""
    raised: list[BaseException] = []

    def noting() -> Any:
        try:
            return asyncio.run(body()) if asyncio.iscoroutinefunction(body) else body()
        except Exception as error:
            raised.append(error)

    async def noting_async() -> Any:
        try:
            return await body()
        except Exception as error:
            raised.append(error)

    execution.attempt(noting_async if asyncio.iscoroutinefunction(body) else noting)
    raise raised[0]


# Beside each other


def test_an_asynchronous_one_does_not_block_the_flow_s_loop(execution: TestExecution, tmp_path: Path) -> None:
    @checkpoint(runtime="isolated")
    async def until_told(path: Path) -> str:
        while not path.exists():
            await asyncio.sleep(0.005)
        return "told"

    @checkpoint
    async def tell(path: Path) -> str:
        path.touch()
        return "tells"

    async def body() -> list[str]:
        return await asyncio.gather(until_told(tmp_path / "told"), tell(tmp_path / "told"))

    execution.attempt(body)

    assert execution.result == ["told", "tells"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_map_of_them_executes_no_more_at_once_than_it_may(
    executions: Executions, folder: Path, asynchronous: bool
) -> None:
    def count(number: int, folder: Path) -> int:
        mine = folder / str(os.getpid())
        mine.touch()
        time.sleep(0.05)
        seen = len(list(folder.iterdir()))
        mine.unlink()
        return seen

    async def count_async(number: int, folder: Path) -> int:
        return count(number, folder)

    counted = checkpoint(runtime="isolated")(count_async if asynchronous else count)

    def body() -> list[int]:
        return [future.result() for future in counted.map(range(5), max_concurrency=2, folder=folder)]

    async def body_async() -> list[int]:
        return list(await asyncio.gather(*counted.map(range(5), max_concurrency=2, folder=folder)))

    execution = executions.new()
    execution.attempt(body_async if asynchronous else body)

    assert len(execution.result) == 5
    assert set(execution.result) <= {1, 2}


def test_one_whose_value_is_not_kept_executes_again_in_a_process(execution: TestExecution) -> None:
    @checkpoint(runtime="isolated", record="digest")
    def secret() -> list[Any]:
        return [42, os.getpid() != 0]

    def body() -> Any:
        return [secret(), plain(1)]

    execution.attempt(body, writes=1)
    execution.attempt(body)

    assert execution.result == [[42, True], 1]
    assert [row.key for row in execution.rows] == ["secret", "plain"]
