"""Concurrent calls, cut short anywhere: the flow sees what it saw, and nothing recorded executes again."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from attempts import Executions, TestExecution

from kitaru import Backoff, KitaruUsageError, checkpoint, wait

ran: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()
    begun.clear()


begun: list[Any] = []


@checkpoint
def add(one: int, other: int = 0) -> int:
    ran["add"] += 1
    return one + other


@checkpoint
async def add_async(one: int, other: int = 0) -> int:
    ran["add_async"] += 1
    return one + other


# Order


def test_asyncio_wait_says_that_it_takes_tasks(execution: TestExecution) -> None:
    async def body() -> str:
        futures = [add.submit(1), add_async.submit(2)]
        with pytest.raises(KitaruUsageError, match=r"asyncio\.wait takes tasks") as caught:
            await asyncio.wait(futures)  # type: ignore[type-var]
        done, _ = await asyncio.wait([asyncio.ensure_future(future) for future in futures])
        return f"{sum(task.result() for task in done)} {caught.value.hint}"

    execution.attempt(body)

    assert execution.result.startswith("3 write: asyncio.wait([asyncio.ensure_future(future)")


Results = list[Any]


def first_completed() -> Results:
    pending = set(delayed_sync.map([3, 1, 2, 0]))
    order: Results = []
    while pending:
        done, pending = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
        order.append(sorted(future.result() for future in done))
        if len(order) == 2:
            order.append(add(len(order)))
    return order


def as_they_come() -> Results:
    return [add(future.result()) for future in concurrent.futures.as_completed(delayed_sync.map([2, 0, 1]))]


async def first_completed_on_a_loop() -> Results:
    pending = {asyncio.ensure_future(delayed(number)) for number in (3, 1, 2, 0)}
    order: Results = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        order.append(sorted(task.result() for task in done))
        order.append(await add_async(len(order)))
    return order


async def as_they_come_on_a_loop() -> Results:
    return [await add_async(await coming) for coming in asyncio.as_completed(delayed.map([2, 0, 1]))]


async def as_they_come_from_threads() -> Results:
    return [await add_async(await coming) for coming in asyncio.as_completed(delayed_sync.map([2, 0, 1]))]


async def with_retries_in_a_gather() -> Results:
    return list(await asyncio.gather(*(flaky(number) for number in range(4)), delayed(1)))


async def with_retries_in_a_group() -> Results:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(twice(number)) for number in range(3)]
    return [task.result() for task in tasks]


async def twice(number: int) -> int:
    return await flaky(number) + await delayed(number)


async def with_timeouts_in_wait_for() -> Results:
    found: Results = []
    for number in (0, 30):
        try:
            found.append(await asyncio.wait_for(timed(number), 10))
        except TimeoutError as error:
            found.append(type(error).__name__)
    found.append(await add_async(1))
    return found


async def in_lanes_and_groups() -> Results:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(laned(number)) for number in range(4)]
    return [task.result() for task in tasks]


async def laned(number: int) -> int:
    return await narrow(await narrow(number))


@checkpoint
def delayed_sync(number: int) -> int:
    threading.Event().wait(number / 200)
    return number


@checkpoint
async def delayed(number: int) -> int:
    await asyncio.sleep(number / 200)
    return number


tries: Counter[int] = Counter()


@checkpoint(retries=2, backoff=Backoff(first=0.002, jitter=0.5))
async def flaky(number: int) -> int:
    await asyncio.sleep(0)
    tries[number] += 1
    if tries[number] % 3:
        raise ConnectionError(str(number))
    return number


@checkpoint(timeout=0.05, retries=1)
async def timed(number: int) -> int:
    await asyncio.sleep(number)
    return number


@checkpoint(max_concurrency=2, retries=1)
async def narrow(number: int) -> int:
    await asyncio.sleep(0.002)
    return number + 1


ORDERED = [
    first_completed, as_they_come, first_completed_on_a_loop, as_they_come_on_a_loop, as_they_come_from_threads,
    with_retries_in_a_gather, with_retries_in_a_group, with_timeouts_in_wait_for, in_lanes_and_groups,
]  # fmt: skip


@pytest.mark.parametrize("body", ORDERED)
def test_cut_short_at_any_write_the_flow_sees_what_it_saw(executions: Executions, body: Callable[[], Any]) -> None:
    """The last attempt executes nothing that an earlier one recorded, and comes to its end without divergence."""
    seen: list[Any] = []

    def noting() -> Any:
        seen.append(body())
        return seen[-1]

    async def noting_async() -> Any:
        seen.append(await body())
        return seen[-1]

    chosen = noting_async if asyncio.iscoroutinefunction(body) else noting
    whole = executions.new()
    tries.clear()
    whole.attempt(chosen)
    assert whole.status == "completed", whole.record.error
    compared = 0
    # Which end in one turn, and so how many rows there are, differs a little from run to run.
    for writes in range(len(whole.rows) + 5):
        tries.clear()
        seen.clear()
        execution = executions.new()
        execution.attempt(chosen, writes=writes)
        if execution.status == "completed":
            continue
        recorded = execution.rows
        tries.clear()
        tries.update({number: failed_before(execution, number) for number in range(4)})
        execution.attempt(chosen)

        assert execution.status == "completed", (writes, execution.record.error)
        assert execution.rows[: len(recorded)] == recorded
        assert all(one == seen[0] for one in seen)
        compared += len(seen) > 1
    assert compared, "no attempt was cut short at its very end, so nothing was compared"


def failed_before(execution: TestExecution, number: int) -> int:
    """Tries of `flaky(number)` that a process before had recorded."""
    return sum(row.kind == "t" and (row.error or "").find(f'"message":"{number}"') > 0 for row in execution.rows)


def test_a_submit_that_is_cancelled_before_it_begins_is_cancelled(execution: TestExecution) -> None:
    async def body() -> str:
        future = delayed.submit(1)
        assert future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        return f"{future.cancelled()} {await delayed(0)}"

    execution.attempt(body)

    assert execution.result == "True 0"
    assert execution.keys == ["delayed"]


def test_branches_that_wait_and_a_lane_park_together(execution: TestExecution) -> None:
    async def branch(number: int) -> int:
        answer: int = await wait(name=f"n{number}", schema=int)
        return await narrow(answer)

    async def body() -> list[int]:
        return list(await asyncio.gather(*(branch(number) for number in range(3))))

    execution.attempt(body)
    for number in range(3):
        assert execution.status == "waiting"
        execution.answer(f"task[{number}]/n{number}", number)
        execution.attempt(body)

    assert execution.result == [1, 2, 3]


def test_a_loop_that_never_rests_gets_its_outcomes_too(execution: TestExecution) -> None:
    async def both() -> int:
        return await add_async(1, 2) + await add_async(3, 4)

    async def body() -> int:
        task = asyncio.create_task(both())
        while not task.done():
            await asyncio.sleep(0)
        return task.result()

    execution.attempt(body, writes=1)
    execution.attempt(body)

    assert execution.result == 10
