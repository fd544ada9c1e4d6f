"""Threads of a flow's own: they execute in every attempt, and come back in the same place."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import anyio
import anyio.to_thread
import pytest
from attempts import PATIENCE_SECONDS, Executions, TestExecution

from kitaru import checkpoint, wait
from kitaru.testing.crashes import ProcessEnded
from kitaru_registry.errors import KitaruFencedError


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


# Threads of libraries


async def by_anyio(work: Callable[[int], int], number: int) -> int:
    return await anyio.to_thread.run_sync(work, number)


async def by_asyncio(work: Callable[[int], int], number: int) -> int:
    return await asyncio.to_thread(work, number)


async def by_wrapped_future(work: Callable[[int], int], number: int) -> int:
    return await asyncio.wrap_future(POOL.submit(contextvars.copy_context().run, work, number))


async def by_a_thread_of_its_own(work: Callable[[int], int], number: int) -> int:
    """As aiosqlite and others do it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()

    def run() -> None:
        with suppress(ProcessEnded, KitaruFencedError):
            loop.call_soon_threadsafe(future.set_result, work(number))

    threading.Thread(target=run).start()
    return await future


async def by_an_event(work: Callable[[int], int], number: int) -> int:
    loop = asyncio.get_running_loop()
    done, found = asyncio.Event(), list[int]()

    def run() -> None:
        with suppress(ProcessEnded, KitaruFencedError):
            found.append(work(number))
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run).start()
    await done.wait()
    return found[0]


POOL = ThreadPoolExecutor(3)

WAYS = [by_asyncio, by_anyio, by_wrapped_future, by_a_thread_of_its_own, by_an_event]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("own_loop", [False, True])
def test_whosever_thread_it_is_comes_back_in_the_recorded_order(
    executions: Executions, way: Callable[..., Coroutine[Any, Any, int]], own_loop: bool
) -> None:
    gates: list[list[threading.Event]] = []

    def work(number: int) -> int:
        assert gates[-1][number].wait(PATIENCE_SECONDS)
        return double(number)

    async def main() -> list[str]:
        queue: asyncio.Queue[tuple[int, int]] = asyncio.Queue()

        async def one(number: int) -> None:
            await queue.put((number, await way(work, number)))

        tasks = [asyncio.create_task(one(number)) for number in range(3)]
        found = []
        try:
            for at in range(3):
                # One after another in the first attempt; in the replay all are ready, and another one begins first.
                for number in [(2, 0, 1)[at]] if len(gates) == 1 else (1, 0, 2):
                    gates[-1][number].set()
                number, doubled = await queue.get()
                found.append(f"{number}: {await add(doubled, 0)}")
        finally:
            for gate in gates[-1]:
                gate.set()
        await asyncio.gather(*tasks)
        await add(9, 9)
        return found

    def plain() -> list[str]:
        return asyncio.run(main())

    for writes in (9, 4):
        gates.clear()
        execution = executions.new()
        gates.append([threading.Event() for _ in range(3)])
        execution.attempt(plain if own_loop else main, writes=writes)
        gates.append([threading.Event() for _ in range(3)])
        execution.attempt(plain if own_loop else main)

        assert sorted(execution.result) == ["0: 0", "1: 2", "2: 4"]
        assert execution.result[0] == "2: 4"
