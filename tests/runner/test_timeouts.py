"""`timeout=`: a try that takes longer is a recorded failure, and what it does later is not recorded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from attempts import PATIENCE_SECONDS, TestExecution

from kitaru import KitaruTimeoutError, checkpoint, log, save
from kitaru_runner.engine.body.body import run_body

ran: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@checkpoint
def plain(number: int) -> int:
    return number


def sleeping(name: str) -> None:
    """Longer than any timeout here, at every instruction ready to be interrupted."""
    ran[name] += 1
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.001)


@checkpoint(timeout=0.05)
def slow() -> None:
    sleeping("slow")


@checkpoint(timeout=0.05)
async def slow_async() -> None:
    ran["slow_async"] += 1
    await asyncio.sleep(PATIENCE_SECONDS)


def bodies() -> dict[str, Callable[[], Any]]:
    """Each gives the error's type and text, and makes one more call."""

    def told(call: Callable[[], Any]) -> Callable[[], Any]:
        def body() -> list[Any]:
            try:
                call()
            except TimeoutError as error:
                return [type(error).__name__, str(error), plain(1)]
            return []

        return body

    def told_async(call: Callable[[], Any]) -> Callable[[], Any]:
        async def body() -> list[Any]:
            try:
                await call()
            except TimeoutError as error:
                return [type(error).__name__, str(error), plain(1)]
            return []

        return body

    async def gathered() -> None:
        await asyncio.gather(slow_async(), asyncio.sleep(0))

    async def waited_for() -> None:
        await asyncio.wait_for(slow_async(), PATIENCE_SECONDS)

    async def in_a_group() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(one())
        except* KitaruTimeoutError as several:
            (error,) = several.exceptions
        raise error

    async def one() -> None:
        await slow_async()

    return {
        "called": told(slow),
        "submitted": told(lambda: slow.submit().result()),
        "mapped": told(lambda: checkpoint(timeout=0.05)(named("slow", lambda _: sleeping("s"))).map([0])[0].result()),
        "a coroutine in a thread": told(lambda: slow_async.submit().result()),
        "awaited": told_async(slow_async),
        "gathered": told_async(gathered),
        "waited for": told_async(waited_for),
        "in a group": told_async(in_a_group),
        "submitted on a loop": told_async(lambda: awaiting(slow_async)),
        "a thread beside a loop": told_async(lambda: awaiting(slow)),
    }


async def awaiting(made: Any) -> Any:
    return await made.submit()


def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    function.__name__ = name
    return function


@pytest.mark.parametrize("how", bodies())
@pytest.mark.parametrize("writes", [None, 1])
def test_a_try_that_takes_too_long_fails_alike_in_each_attempt(
    execution: TestExecution, how: str, writes: int | None
) -> None:
    body = bodies()[how]
    execution.attempt(body, writes=writes)
    before = Counter(ran)
    if writes is not None:
        execution.attempt(body)
    assert ran == before

    kind, message, _ = execution.result
    (call, _) = execution.record.checkpoints
    assert kind == "KitaruTimeoutError"
    assert message == f"checkpoint {call.key} took longer than its timeout of 0.05 s"
    assert call.error is not None
    assert (call.status, call.error.type, call.error.origin) == ("failed", "KitaruTimeoutError", "user_code")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_timeout_is_a_failure_that_is_tried_again(execution: TestExecution, asynchronous: bool) -> None:
    @checkpoint(timeout=0.05, retries=2, retry_on=KitaruTimeoutError)
    def late_once() -> str:
        if not any(row.kind == "t" for row in execution.rows):
            sleeping("late_once")
        return "in time"

    @checkpoint(timeout=0.05, retries=2, retry_on=KitaruTimeoutError)
    async def late_once_async() -> str:
        if not any(row.kind == "t" for row in execution.rows):
            await asyncio.sleep(PATIENCE_SECONDS)
        return "in time"

    async def body() -> str:
        return await late_once_async()

    execution.attempt(body if asynchronous else late_once)

    assert execution.result == "in time"
    assert [(row.kind, row.tries) for row in execution.rows] == [("t", 1), ("c", 2)]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_timeout_error_of_the_user_s_own_is_not_ours(execution: TestExecution, asynchronous: bool) -> None:
    @checkpoint(timeout=PATIENCE_SECONDS)
    def own() -> None:
        raise TimeoutError("the service did not answer")

    @checkpoint(timeout=PATIENCE_SECONDS)
    async def own_async() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(1)

    async def body() -> None:
        await own_async()

    execution.attempt(body if asynchronous else own)

    error = execution.record.error
    assert error is not None
    assert error.type == "TimeoutError"
    assert error.message == ("" if asynchronous else "the service did not answer")


def test_a_call_that_is_in_time_gives_its_value_and_its_failure(execution: TestExecution) -> None:
    @checkpoint(timeout=PATIENCE_SECONDS)
    def give(number: int) -> int:
        save("seen", number)
        log(number=number)
        if number > 1:
            raise ValueError(f"{number}")
        return plain(number)

    def body() -> list[Any]:
        try:
            give(2)
        except ValueError as error:
            return [give(1), str(error)]
        return []

    execution.attempt(body)

    assert execution.result == [1, "2"]
    assert execution.keys == ["give", "give#2/try1/plain", "give#2"]
    assert [call.metadata for call in execution.record.checkpoints] == [{"number": 2}, {}, {"number": 1}]


def test_what_a_left_behind_thread_does_is_not_recorded(execution: TestExecution) -> None:
    go_on, done = threading.Event(), threading.Event()
    raised: list[str] = []

    @checkpoint(timeout=0.05)
    def stubborn() -> int:
        late = False
        while not go_on.is_set():
            try:
                go_on.wait(0.01)
            except TimeoutError:
                late = True
        assert late
        try:
            log(late=True)
            plain(1)
        except KitaruTimeoutError as error:
            raised.append(str(error))
        done.set()
        return 1

    def body() -> str:
        try:
            stubborn()
        except KitaruTimeoutError:
            go_on.set()
            assert done.wait(PATIENCE_SECONDS)
            return f"late {plain(2)}"
        return ""

    execution.attempt(body)

    assert execution.result == "late 2"
    assert execution.keys == ["stubborn", "plain"]
    assert raised == ["the time of checkpoint stubborn is over"]
    assert execution.record.checkpoints[0].metadata == {}


def test_a_nested_call_that_ends_after_its_outer_s_time_is_not_recorded(execution: TestExecution) -> None:
    go_on, ended = threading.Event(), threading.Event()

    @checkpoint
    def inner() -> int:
        while not go_on.is_set():
            try:
                go_on.wait(0.01)
            except TimeoutError:
                continue
        return 1

    @checkpoint(timeout=0.05)
    def outer() -> int:
        try:
            return inner()
        finally:
            ended.set()

    def body() -> str:
        try:
            outer()
        except KitaruTimeoutError:
            go_on.set()
            assert ended.wait(PATIENCE_SECONDS)
            return f"late {plain(2)}"
        return ""

    execution.attempt(body)

    assert execution.result == "late 2"
    assert execution.keys == ["outer", "plain"]


def test_an_asynchronous_one_that_swallows_its_end_has_failed_nevertheless(execution: TestExecution) -> None:
    @checkpoint(timeout=0.02)
    async def swallowing() -> str:
        try:
            await asyncio.sleep(PATIENCE_SECONDS)
        except asyncio.CancelledError:
            return "never mind"
        return ""

    @checkpoint(timeout=0.02)
    async def replacing() -> None:
        try:
            await asyncio.sleep(PATIENCE_SECONDS)
        except asyncio.CancelledError as error:
            raise ValueError("while I was ending") from error

    async def body() -> list[str]:
        results = await asyncio.gather(swallowing(), replacing(), return_exceptions=True)
        return [type(result).__name__ for result in results]

    execution.attempt(body)

    assert execution.result == ["KitaruTimeoutError", "KitaruTimeoutError"]


def test_an_asynchronous_one_that_blocks_the_loop_past_its_end_has_failed(execution: TestExecution) -> None:
    @checkpoint(timeout=0.02)
    async def blocking() -> str:
        threading.Event().wait(0.03)
        return "late"

    async def body() -> str:
        try:
            return await blocking()
        except KitaruTimeoutError as error:
            return str(error)

    execution.attempt(body)

    assert execution.result == "checkpoint blocking took longer than its timeout of 0.02 s"


# Callers that give up


@checkpoint
async def endless(number: int) -> None:
    ran["endless"] += 1
    await asyncio.sleep(PATIENCE_SECONDS)


@checkpoint(retries=3, backoff=3)
async def failing() -> None:
    ran["failing"] += 1
    raise ConnectionError("down")


@checkpoint(retries=3, backoff=3600)
async def failing_for_long() -> None:
    ran["failing_for_long"] += 1
    raise ConnectionError("down")


@checkpoint(max_concurrency=1)
async def one_at_a_time(number: int) -> None:
    ran[f"one {number}"] += 1
    await asyncio.sleep(PATIENCE_SECONDS)


async def in_its_try() -> None:
    await endless(1)


async def in_a_pause() -> None:
    await failing()


async def in_a_long_pause() -> None:
    await failing_for_long()


async def in_a_queue() -> None:
    await asyncio.gather(one_at_a_time(1), one_at_a_time(2))


async def behind_another() -> None:
    await plain_async(endless.submit(1))


@checkpoint
async def plain_async(number: Any) -> Any:
    return number


@pytest.mark.parametrize("where", [in_its_try, in_a_pause, in_a_long_pause, in_a_queue, behind_another])
def test_giving_up_is_a_recorded_outcome_wherever_it_comes(execution: TestExecution, where: Any) -> None:
    """Else a replay, which is faster, would come further in the same time, and go another way."""

    async def body() -> str:
        try:
            await asyncio.wait_for(where(), 0.3)
        except TimeoutError:
            return f"gave up {plain(1)} {plain(2)}"
        return "went on"

    execution.attempt(body)
    assert execution.result == "gave up 1 2"
    rows, before = execution.rows, Counter(ran)
    again = cut_before(execution, "plain#2")
    again.attempt(body)

    assert again.result == "gave up 1 2"
    assert [row.key for row in again.rows] == [row.key for row in rows]
    # What was submitted goes on without the caller that gave up, and is executed again until it is recorded.
    assert ran - Counter(endless=where is behind_another) == before


def cut_before(execution: TestExecution, key: str) -> TestExecution:
    """The execution as a crash before that row would have left it."""
    (seq,) = [row.seq for row in execution.rows if row.key == key]
    with execution.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM journal WHERE execution = ? AND seq >= ?", (execution.row, seq))
        connection.exec_driver_sql(
            "UPDATE executions SET status = 'pending', ended_us = NULL, result_codec = NULL, result_data = NULL "
            "WHERE id = ?", (execution.row,),
        )  # fmt: skip
    return execution


def test_a_cancellation_of_the_function_s_own_is_a_failure_of_its(execution: TestExecution) -> None:
    @checkpoint
    async def cancels() -> None:
        ran["cancels"] += 1
        inner = asyncio.ensure_future(asyncio.sleep(PATIENCE_SECONDS))
        inner.cancel()
        await inner

    async def body() -> str:
        try:
            await cancels()
        except asyncio.CancelledError:
            return f"cancelled {plain(1)}"
        return ""

    execution.attempt(body, writes=1)
    execution.attempt(body)

    assert (execution.result, ran["cancels"]) == ("cancelled 1", 1)


def test_tasks_that_a_flow_leaves_behind_record_nothing(execution: TestExecution) -> None:
    async def body() -> str:
        task = asyncio.create_task(in_its_try())
        while not ran["endless"]:
            await asyncio.sleep(0)
        return f"ended {task.done()}"

    execution.attempt(body)

    assert execution.result == "ended False"
    assert execution.rows == []


def test_a_timeout_does_not_strike_where_a_checkpoint_within_is_recorded(execution: TestExecution) -> None:
    """Its caller's time is over while it is written: that is kept, and the caller ends right after."""
    writing, over = threading.Event(), threading.Event()

    @checkpoint(timeout=0.1)
    def outer() -> None:
        plain(1)
        ran["went on"] += 1

    engine, attempt, inputs = execution.begin()
    record = attempt.ending.record

    def slow(entries: Any, recorded: Any) -> int:
        if entries[0].key.endswith("plain"):
            writing.set()
            over.wait(PATIENCE_SECONDS)
        return record(entries, recorded)

    attempt.ending.record = slow  # type: ignore[method-assign]  # a disk that takes longer than the checkpoint may

    def body() -> str:
        try:
            outer()
        except TimeoutError:
            over.set()
            return "over"
        return "in time"

    run_body(engine, body, inputs)
    assert writing.is_set()
    assert execution.result == "over"
    assert not ran["went on"]
