"""A retry executes again each failure that the flow has not consumed, whatever its shape is, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from attempts import Executions, TestExecution
from outages import (
    BRANCHES,
    FAILING_TOGETHER,
    SHAPES,
    ask,
    branch,
    call,
    gathered_with_exceptions,
    grouped,
    release,
    service,
)

from kitaru import checkpoint
from kitaru_registry.executions.retried import retry_plan


@pytest.fixture(autouse=True)
def fresh_service() -> None:
    service.__init__()  # type: ignore[misc]  # anew


def name(shape: Callable[[], Any]) -> str:
    return shape.__name__


@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_one_retry_after_an_outage_is_enough(execution: TestExecution, shape: Callable[[], Any]) -> None:
    assert execution.attempt(shape).status == "failed"
    service.is_up = True

    execution.retry()
    execution.attempt(shape)

    assert execution.result == list(BRANCHES)


@pytest.mark.parametrize("shape", FAILING_TOGETHER, ids=name)
def test_what_succeeded_beside_a_failure_is_not_bought_again(
    execution: TestExecution, shape: Callable[[], Any]
) -> None:
    service.serves = range(0, 8, 2)
    execution.attempt(shape)
    recorded = {key for key, value in execution.outcomes.items() if isinstance(value, int)}
    answered = len(recorded)
    service.is_up = True

    execution.retry()
    execution.attempt(shape)

    assert execution.result == list(BRANCHES)
    assert sum(service.answers.values()) <= 8 + (4 - answered)


@pytest.mark.parametrize("shape", FAILING_TOGETHER, ids=name)
def test_a_flow_that_retries_goes_over_one_blip_in_each_branch(
    executions: Executions, shape: Callable[[], Any]
) -> None:
    execution = executions.new(retries=3)
    service.blips = True

    while execution.attempt(shape).status == "pending":
        pass

    assert execution.result == list(BRANCHES)
    assert set(service.answers.values()) == {1}


def test_each_branch_of_a_group_shows_its_own_error(execution: TestExecution) -> None:
    execution.attempt(grouped)

    shown = {call.key: call.error.message for call in execution.record.checkpoints if call.error is not None}

    assert shown == {f"task[{number}]/ask": f"down {number}" for number in BRANCHES}


async def caught() -> list[Any]:
    """Catches what a `gather` raised, and fails later."""
    try:
        await asyncio.gather(*(branch(number) for number in BRANCHES[:4]))
        said = "up"
    except ConnectionError as error:
        said = str(error)
    return [said, await ask(7)]


async def caught_in_branches() -> list[Any]:
    async def one(number: int) -> str:
        try:
            return str(await ask(number))
        except ConnectionError as error:
            return str(error)

    found = await asyncio.gather(*(one(number) for number in BRANCHES[:4]))
    return [found, await ask(7)]


async def caught_in_a_group() -> list[Any]:
    said = "up"
    try:
        async with asyncio.TaskGroup() as group:
            for number in BRANCHES[:4]:
                group.create_task(ask(number))
    except* ConnectionError:
        said = "down"
    return [said, await ask(7)]


async def caught_in_time() -> list[Any]:
    said = "up"
    try:
        await asyncio.wait_for(ask_for_ever(), 0.01)
    except TimeoutError:
        said = "late"
    return [said, await ask(7)]


@checkpoint
async def ask_for_ever() -> None:
    service.calls[-1] += 1
    await asyncio.sleep(3600)


@pytest.mark.parametrize("shape", [caught, caught_in_branches, caught_in_a_group, caught_in_time], ids=name)
def test_what_the_flow_caught_stays_caught(execution: TestExecution, shape: Callable[[], Any]) -> None:
    execution.attempt(shape)
    service.is_up = True
    before = dict(service.calls)

    execution.retry()
    execution.attempt(shape)

    assert execution.result[1] == 7
    assert execution.result[0] != "up"
    assert service.calls == {**before, 7: 2}


def planned(execution: TestExecution) -> dict[str, str]:
    plan = retry_plan(execution.database, execution.exec_id)
    return {call.key: call.does for call in plan.calls}


def test_a_plan_says_what_executes_again_and_what_stays_behind_it(execution: TestExecution) -> None:
    service.serves = range(1, 8)

    async def body() -> list[int]:
        first = await ask(7)
        return [first, *await gathered_with_exceptions()]

    execution.attempt(body)

    does = planned(execution)
    assert does.pop("ask") == "reused"
    assert does.pop("task[0]/ask") == "executes"
    assert set(does.values()) <= {"reused", "stays"}
    assert "stays" in does.values()


@checkpoint
def refund(what: str) -> None:
    service.calls[-1] += 1


def cleaning() -> int:
    try:
        return call(1)
    except ConnectionError:
        refund("the same")
        raise


def test_what_cleans_up_behind_a_failure_does_so_again_if_it_fails_again(execution: TestExecution) -> None:
    execution.attempt(cleaning)
    execution.retry()
    execution.attempt(cleaning)
    execution.retry()
    service.is_up = True
    execution.attempt(cleaning)

    assert execution.result == 1
    assert (service.calls[1], service.calls[-1]) == (3, 2)


async def one_too_slow() -> int:
    return await asyncio.wait_for(slow(), 0.02)


async def all_too_slow() -> int:
    async with asyncio.timeout(0.02):
        return max(await asyncio.gather(slow(), slow()))


async def said_to_be_too_slow() -> int:
    try:
        return await asyncio.wait_for(slow(), 0.02)
    except TimeoutError:
        raise RuntimeError("too slow") from None


@checkpoint
async def slow() -> int:
    if not service.is_up:
        await asyncio.sleep(3600)
    return 0


async def completed_too_slowly() -> int:
    tasks = [asyncio.create_task(slow()) for _ in range(2)]
    return max([await first for first in asyncio.as_completed(tasks, timeout=0.02)])


async def waited_for_too_long() -> int:
    tasks = [asyncio.create_task(slow()) for _ in range(2)]
    _, pending = await asyncio.wait(tasks, timeout=0.02)
    if pending:
        raise RuntimeError("too slow")
    return max(task.result() for task in tasks)


async def cancelled_by_another() -> int:
    """Where the flow's own code fails in a group, a call beside it is cancelled."""

    async def own() -> int:
        await release(0)
        if not service.is_up:
            raise ValueError("of its own")
        return 0

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(own()), group.create_task(slow())]
    return max(task.result() for task in tasks)


TOO_SLOW = [
    one_too_slow, all_too_slow, said_to_be_too_slow, completed_too_slowly, waited_for_too_long, cancelled_by_another,
]  # fmt: skip


@pytest.mark.parametrize("shape", TOO_SLOW, ids=name)
def test_a_time_out_that_ended_the_flow_is_over(execution: TestExecution, shape: Callable[[], Any]) -> None:
    execution.attempt(shape)
    service.is_up = True

    execution.retry()
    execution.attempt(shape)

    assert execution.result == 0
