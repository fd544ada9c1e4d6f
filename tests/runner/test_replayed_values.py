"""Values, artifacts and metadata outlive attempts; calls without a place, and fenced attempts, are refused."""

from __future__ import annotations

import _thread
import asyncio
import threading
from typing import Any

import pytest
from attempts import Executions, TestExecution
from replayed import add, double, flaky, ran, refuse

from kitaru import (
    KitaruContextError,
    KitaruError,
    KitaruUserCodeError,
    checkpoint,
    current_execution_id,
    load,
    log,
    save,
    wait,
)
from kitaru_registry.errors import KitaruFencedError
from kitaru_runner.engine.body.body import run_body


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


# Where calls have no place


def test_a_checkpoint_in_a_thread_that_the_flow_did_not_start_names_submit(execution: TestExecution) -> None:
    def body() -> str:
        said: list[str] = []
        done = threading.Event()

        def call() -> None:
            try:
                double(1)
            except KitaruContextError as error:
                said.append(f"{error.message}: {error.hint}")
            done.set()

        _thread.start_new_thread(call, ())
        done.wait()
        return said[0]

    execution.attempt(body)

    assert "double was called in a thread without the flow's context" in execution.result
    assert "double.submit(...)" in execution.result
    assert not ran


def test_a_checkpoint_within_asyncio_to_thread_keeps_its_place(execution: TestExecution) -> None:
    async def body() -> int:
        return await asyncio.to_thread(double, 4)

    execution.attempt(body)

    assert execution.result == 8


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_wait_inside_a_checkpoint_is_an_error(execution: TestExecution, asynchronous: bool) -> None:
    @checkpoint
    def ask() -> Any:
        return wait(name="approve", schema=bool)

    @checkpoint
    async def ask_later() -> Any:
        return await wait(name="approve", schema=bool)

    async def body() -> Any:
        return await ask_later()

    execution.attempt(body if asynchronous else ask)

    record = execution.record
    assert record.error is not None
    assert (record.status, record.error.type) == ("failed", "KitaruContextError")
    assert "wait() was called inside checkpoint ask" in record.error.message
    assert record.pending_waits == ()


def test_outside_of_a_flow_a_checkpoint_is_the_plain_function() -> None:
    assert double(2) == 4
    assert double.submit(3).result() == 6
    assert [future.result() for future in double.map([1, 2])] == [2, 4]
    assert asyncio.run(add(1, 2)) == 3
    with pytest.raises(ConnectionError):
        flaky(9)
    assert ran["flaky 9"] == 1


def test_wait_save_and_log_outside_of_a_flow_say_so() -> None:
    for name, call in (("wait", wait), ("save", lambda: save("a", 1)), ("log", lambda: log(a=1))):
        with pytest.raises(KitaruContextError, match=rf"{name}\(\) was called outside of a flow"):
            call()
    assert current_execution_id() is None


# Fences


def test_an_attempt_that_was_taken_over_writes_nothing_more(execution: TestExecution) -> None:
    engine, _, _ = execution.begin()
    taken = []

    def body() -> int:
        first = double(1)
        taken.append(execution.begin())
        return first + double(2)

    with pytest.raises(KitaruFencedError):
        run_body(engine, body, {})

    assert execution.keys == ["double"]
    assert (execution.status, execution.record.attempt) == ("running", 2)
    run_body(taken[0][0], lambda: double(1) + double(2), {})
    assert execution.result == 6
    assert ran == {"double 1": 1, "double 2": 2}


def test_a_flow_cannot_swallow_its_being_fenced_out(execution: TestExecution) -> None:
    engine, _, _ = execution.begin()

    def body() -> str:
        execution.begin()
        for number in range(3):
            try:
                double(number)
            except Exception:
                continue
        return "all is well"

    run_body(engine, body, {})

    assert execution.rows == []
    assert execution.status == "running"
    assert sum(ran.values()) == 1


# Values, artifacts, metadata


def test_large_values_survive(execution: TestExecution) -> None:
    large = "x" * 200_000

    @checkpoint
    def draft() -> str:
        ran["draft"] += 1
        return large

    def body() -> str:
        text = draft() + draft()
        save("text", text)
        double(1)
        return text

    execution.attempt(body, writes=3)
    execution.attempt(body)

    assert execution.result == large * 2
    assert ran["draft"] == 2
    stored = [path for path in execution.database.home.values.rglob("*") if path.is_file()]
    assert sorted(path.stat().st_size for path in stored) == [200_000, 400_000]


def test_a_large_value_that_was_changed_on_disk_is_refused(execution: TestExecution) -> None:
    @checkpoint
    def draft() -> str:
        return "x" * 200_000

    def body() -> str:
        text = draft()
        double(1)
        return text

    execution.attempt(body, writes=1)
    stored = next(path for path in execution.database.home.values.rglob("*") if path.is_file())
    stored.chmod(0o644)
    stored.write_bytes(b"y" + stored.read_bytes()[1:])
    execution.attempt(body)

    error = execution.record.error
    assert error is not None
    assert error.type == "KitaruDigestMismatchError"
    assert stored.name in error.message


def test_what_is_saved_can_be_loaded_by_another_execution(executions: Executions) -> None:
    first = executions.new()

    def write() -> None:
        save("report", {"pages": 3})
        double(21)

    first.attempt(write)
    second = executions.new()
    second.attempt(lambda: [load(first.exec_id, "report"), load(first.exec_id, "double"), current_execution_id()])

    assert second.result == [{"pages": 3}, 42, second.exec_id]


def test_a_save_in_the_body_happens_once(execution: TestExecution) -> None:
    def body() -> Any:
        save("report", double(1))
        double(2)
        return load(str(current_execution_id()), "report")

    execution.attempt(body, writes=2)
    execution.attempt(body)

    assert execution.result == 2
    assert execution.keys == ["double", "save:report", "double#2", "load:report"]


def test_a_save_in_a_try_that_failed_leaves_nothing(execution: TestExecution) -> None:
    @checkpoint(retries=1)
    def report() -> str:
        ran["report"] += 1
        save("report", ran["report"])
        if ran["report"] == 1:
            raise OSError("again")
        return "saved"

    def body() -> Any:
        report()
        return load(str(current_execution_id()), "report")

    execution.attempt(body)

    assert execution.result == 2


def test_loading_what_is_not_there_names_what_is(execution: TestExecution) -> None:
    def body() -> str:
        double(1)
        try:
            load(str(current_execution_id()), "notes")
        except KitaruError as error:
            return error.message
        return ""

    execution.attempt(body)

    assert execution.result == f"execution {execution.exec_id} has no artifact notes; it has: double"


def test_logged_metadata_merges_in_the_body_and_stays_with_its_checkpoint(execution: TestExecution) -> None:
    @checkpoint
    def call_model() -> None:
        log(tokens=12)

    def body() -> None:
        log(cost={"usd": 1}, stage="first")
        call_model()
        log(cost={"eur": 2}, stage="second")

    execution.attempt(body, writes=2)
    execution.attempt(body)

    record = execution.record
    assert record.metadata == {"cost": {"usd": 1, "eur": 2}, "stage": "second"}
    assert record.checkpoints[0].metadata == {"tokens": 12}


def test_what_one_checkpoint_logs_merges_too(execution: TestExecution) -> None:
    @checkpoint
    def call_models() -> None:
        log(llm_calls={"first": {"tokens_input": 1}}, stage="first")
        log(llm_calls={"second": {"tokens_input": 2}}, stage="second")

    execution.attempt(call_models)

    logged = {"llm_calls": {"first": {"tokens_input": 1}, "second": {"tokens_input": 2}}, "stage": "second"}
    assert execution.record.checkpoints[0].metadata == logged


def test_an_execution_that_logged_nothing_can_be_read(execution: TestExecution) -> None:
    execution.attempt(lambda: log())

    assert execution.record.metadata == {}


def test_log_takes_json_alone(execution: TestExecution) -> None:
    execution.attempt(lambda: log(when={1, 2}))

    error = execution.record.error
    assert error is not None
    assert (error.type, error.message) == ("KitaruUsageError", "log(when=...) got a builtins:set")


def test_a_failure_in_a_future_is_raised_by_its_result(execution: TestExecution) -> None:
    def body() -> list[str]:
        futures = [refuse.submit("a"), refuse.submit("b")]
        double(1)
        return [str(future.exception()) for future in futures]

    execution.attempt(body, writes=3)
    execution.attempt(body)

    assert execution.result == ["not a", "not b"]


def test_a_failure_whose_class_cannot_be_had_is_a_user_code_error(execution: TestExecution) -> None:
    class Local(Exception):
        pass

    @checkpoint
    def fail() -> None:
        raise Local("of here")

    def body() -> str:
        try:
            fail()
        except KitaruUserCodeError as error:
            return error.message
        return ""

    execution.attempt(body)

    assert execution.result == "Local: of here"
