"""A wait parks its branch, not its siblings; the execution parks when nothing else can go on."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from attempts import PATIENCE_SECONDS, Executions, TestExecution

from kitaru import checkpoint, wait
from kitaru_registry.errors import KitaruConflictError


@checkpoint
def draft(topic: str) -> str:
    return f"About {topic}"


@checkpoint
async def fetch(page: int) -> int:
    return page


def review() -> str:
    text = draft("agents")
    return text if wait(name="approve", question="Publish?", schema=bool) else "Rejected"


async def review_on_a_loop() -> str:
    page = await fetch(3)
    return f"page {page}" if await wait(name="approve", question="Publish?", schema=bool) else "Rejected"


@pytest.mark.parametrize("body", [review, review_on_a_loop])
def test_an_execution_parks_at_its_wait(execution: TestExecution, body: Any) -> None:
    record = execution.attempt(body)

    assert record.status == "waiting"
    assert [(w.key, w.question, w.schema_) for w in record.pending_waits] == [
        ("approve", "Publish?", {"type": "boolean"})
    ]


@pytest.mark.parametrize(
    ("body", "answer", "result"),
    [
        (review, True, "About agents"), (review, False, "Rejected"),
        (review_on_a_loop, True, "page 3"), (review_on_a_loop, False, "Rejected"),
    ],
)  # fmt: skip
def test_its_next_attempt_goes_on_with_the_answer(
    execution: TestExecution, body: Any, answer: bool, result: str
) -> None:
    execution.attempt(body)
    execution.answer("approve", answer)

    record = execution.attempt(body)

    assert (record.status, execution.result, record.attempt) == ("completed", result, 2)
    assert execution.keys[-1] == "approve"


@pytest.mark.parametrize("body", [review, review_on_a_loop])
def test_a_process_that_stays_goes_on_in_place(execution: TestExecution, body: Any) -> None:
    attempt = execution.attempt_in_thread(body)
    attempt.wait_until_parked()
    assert execution.status == "waiting"

    execution.answer("approve", True)
    attempt.hear()
    attempt.join()

    assert (execution.status, execution.record.attempt) == ("completed", 1)


def test_an_answer_is_recorded_once_and_asked_for_no_more(execution: TestExecution) -> None:
    def body() -> list[Any]:
        given = wait(name="approve", schema=list[int])
        return [given, draft("a"), draft("b")]

    execution.attempt(body)
    execution.answer("approve", [1, 2])
    execution.attempt(body, writes=2)
    execution.attempt(body)

    assert execution.result == [[1, 2], "About a", "About b"]
    assert [(row.kind, row.key) for row in execution.rows] == [("w", "approve"), ("c", "draft"), ("c", "draft#2")]


def test_waits_of_one_name_have_keys_of_their_own(execution: TestExecution) -> None:
    def body() -> list[Any]:
        return [wait(name="page", schema=int), wait(name="page", schema=int)]

    execution.attempt(body)
    execution.answer("page", 1)
    execution.attempt(body)
    assert [w.key for w in execution.record.pending_waits] == ["page#2"]
    execution.answer("page#2", 2)
    execution.attempt(body)

    assert execution.result == [1, 2]


def test_branches_wait_side_by_side_while_others_go_on(execution: TestExecution) -> None:
    async def ask(name: str) -> int:
        answer: int = await wait(name=name, schema=int)
        return answer

    async def work() -> int:
        return sum([await fetch(1), await fetch(2), await fetch(3)])

    async def body() -> list[int]:
        return await asyncio.gather(ask("one"), ask("two"), work())

    execution.attempt(body)
    assert [w.key for w in execution.record.pending_waits] == ["task[0]/one", "task[1]/two"]
    assert len(execution.outcomes) == 3

    execution.answer("task[1]/two", 2)
    execution.attempt(body)
    assert execution.status == "waiting"
    execution.answer("task[0]/one", 1)
    execution.attempt(body)

    assert execution.result == [1, 2, 6]


def test_it_does_not_park_while_a_checkpoint_is_in_flight(execution: TestExecution) -> None:
    go_on = threading.Event()

    @checkpoint
    def slow() -> str:
        assert go_on.wait(PATIENCE_SECONDS)
        return "slow"

    def body() -> list[Any]:
        future = slow.submit()
        return [wait(name="approve", schema=bool), future.result()]

    attempt = execution.attempt_in_thread(body, stays=False)
    attempt.wait_until_asked()
    assert execution.status == "running"
    go_on.set()
    attempt.wait_until_parked()

    assert execution.keys == ["submit[0]/slow"]
    assert execution.status == "waiting"
    attempt.join()


def test_an_answer_that_comes_before_parking_keeps_it_from_parking(execution: TestExecution) -> None:
    go_on = threading.Event()

    @checkpoint
    def slow() -> str:
        assert go_on.wait(PATIENCE_SECONDS)
        return "slow"

    def body() -> list[Any]:
        future = slow.submit()
        return [wait(name="approve", schema=bool), future.result()]

    attempt = execution.attempt_in_thread(body, stays=False)
    attempt.wait_until_asked()
    execution.answer("approve", True)
    go_on.set()
    attempt.join()

    assert not attempt.ending.parked.is_set()
    assert execution.result == [True, "slow"]
    assert execution.record.attempt == 1


def test_nothing_is_raised_in_user_code_while_it_waits(execution: TestExecution) -> None:
    cleaned = []

    def body() -> Any:
        try:
            return wait(name="approve", schema=bool)
        except BaseException as error:
            cleaned.append(error)
            raise
        finally:
            cleaned.append("finally")

    attempt = execution.attempt_in_thread(body)
    attempt.wait_until_parked()
    assert cleaned == []

    execution.answer("approve", True)
    attempt.hear()
    attempt.join()
    assert cleaned == ["finally"]


def test_a_wait_in_a_task_group_leaves_its_siblings_alone(execution: TestExecution) -> None:
    async def ask() -> bool:
        answer: bool = await wait(name="approve", schema=bool)
        return answer

    async def body() -> list[Any]:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(ask())
            fetching = group.create_task(twice())
        return [asking.result(), fetching.result()]

    async def twice() -> int:
        return await fetch(1) + await fetch(1)

    execution.attempt(body)
    execution.answer("task[0]/approve", True)
    execution.attempt(body)

    assert execution.result == [True, 2]


def test_a_go_ahead_has_no_value(execution: TestExecution) -> None:
    def body() -> str:
        return f"{wait()!r}"

    execution.attempt(body)
    execution.answer("wait", None)
    execution.attempt(body)

    assert execution.result == "None"


def test_an_answer_after_the_end_is_refused(executions: Executions) -> None:
    execution = executions.new()

    async def body() -> str:
        asking = asyncio.create_task(ask())
        await fetch(1)
        await asyncio.sleep(0.01)
        asking.cancel()
        return "ended"

    async def ask() -> None:
        await wait(name="approve", schema=bool)

    execution.attempt(body)

    assert execution.result == "ended"
    with pytest.raises(KitaruConflictError, match="is closed: its flow does not stand at it"):
        execution.answer("task[0]/approve", True)
