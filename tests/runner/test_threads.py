"""Threads of a flow's own: they execute in every attempt, and come back in the same place."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from attempts import Executions, TestExecution

from kitaru import checkpoint, wait


@checkpoint
async def add(one: int, other: int) -> int:
    await asyncio.sleep(0.1)
    return one + other


@checkpoint
def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("first", ["the thread", "the checkpoint"])
def test_who_was_first_is_first_in_a_replay(execution: TestExecution, first: str) -> None:
    took: list[threading.Event] = []

    def work() -> str:
        # In the replay it takes as long as in the first attempt it did not.
        took[-1].wait(0.4)
        return "the thread"

    async def other() -> str:
        await add(1, 2)
        return "the checkpoint"

    async def body() -> list[str]:
        took.append(threading.Event())
        if (first == "the thread") is (len(took) == 1):
            took[-1].set()
        seen = [await each for each in asyncio.as_completed([asyncio.to_thread(work), other()])]
        await add(3, 4)
        return seen

    execution.attempt(body, writes=2)
    assert execution.keys == [
        *(
            ["task[0]/asyncio:thread", "task[1]/add"]
            if first == "the thread"
            else ["task[1]/add", "task[0]/asyncio:thread"]
        )
    ]
    execution.attempt(body)

    assert execution.result[0] == first
    assert len(took) == 2


def test_its_failure_is_raised(execution: TestExecution) -> None:
    def work() -> None:
        raise LookupError("not there")

    async def body() -> str:
        with pytest.raises(LookupError, match="not there"):
            await asyncio.to_thread(work)
        return "went on"

    execution.attempt(body)

    assert execution.result == "went on"


def test_nobody_stands_behind_one_that_was_given_up(execution: TestExecution) -> None:
    async def body() -> int:
        ended = threading.Event()
        thread = asyncio.create_task(asyncio.to_thread(ended.wait, 5))
        await add(0, 0)
        thread.cancel()
        ended.set()
        return await add(1, 2)

    execution.attempt(body, writes=2)
    execution.attempt(body)

    assert execution.result == 3


def test_one_in_a_checkpoint_is_not_recorded(execution: TestExecution) -> None:
    @checkpoint
    async def fetch() -> int:
        return await asyncio.to_thread(lambda: 4)

    async def body() -> int:
        return await fetch()

    execution.attempt(body)

    assert execution.keys == ["fetch"]


def test_its_work_keeps_an_execution_from_parking(executions: Executions) -> None:
    execution = executions.new()
    came: list[str] = []

    def work() -> str:
        # Longer than a loop rests before its execution parks.
        threading.Event().wait(0.4)
        came.append("back")
        return "done"

    async def body() -> list[Any]:
        return await asyncio.gather(asyncio.to_thread(work), wait(name="approve", schema=bool))

    execution.attempt(body)

    assert (execution.status, came) == ("waiting", ["back"])
    assert execution.keys == ["task[0]/asyncio:thread"]


def test_one_that_stands_at_a_wait_lets_it_park(execution: TestExecution) -> None:
    def work() -> bool:
        return wait(name="approve", schema=bool)

    async def body() -> bool:
        return await asyncio.to_thread(work)

    attempt = execution.attempt_in_thread(body)
    attempt.wait_until_parked()
    execution.answer("approve", True)
    attempt.hear()
    attempt.join()

    assert execution.result is True


def test_a_pool_of_the_flow_s_own_keeps_its_order_too(execution: TestExecution) -> None:
    orders: list[list[int]] = []

    async def body() -> list[int]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(2) as pool:
            ended = [loop.run_in_executor(pool, threading.Event().wait, 0.05 * (3 - n)) for n in range(3)]
            seen: list[int] = []
            for n, future in enumerate(ended):
                future.add_done_callback(lambda _, n=n: seen.append(n))
            await asyncio.gather(*ended)
        orders.append(seen)
        await add(1, 2)
        return seen

    execution.attempt(body, writes=3)
    execution.attempt(body)

    assert orders[0] == orders[1]
    assert execution.result == orders[0]
