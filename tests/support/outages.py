"""Flows with eight branches that call a service which is down, in every shape that a flow may give them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
from collections import Counter
from collections.abc import Container
from typing import Any

import anyio

from kitaru import checkpoint

BRANCHES = range(8)


class Service:
    """What the branches call: it is down, but for some; or fails each of them once."""

    def __init__(self) -> None:
        self.is_up = False
        self.serves: Container[int] = ()
        self.blips = False
        self.calls: Counter[int] = Counter()
        self.answers: Counter[int] = Counter()

    def ask(self, number: int) -> int:
        self.calls[number] += 1
        if not (self.is_up or number in self.serves or (self.blips and self.calls[number] > 1)):
            raise ConnectionError(f"down {number}")
        self.answers[number] += 1
        return number


service = Service()


@checkpoint
def call(number: int) -> int:
    return service.ask(number)


@checkpoint
async def ask(number: int) -> int:
    await asyncio.sleep(0.001)
    return service.ask(number)


@checkpoint
async def ask_in_turn(number: int) -> int:
    await asyncio.sleep(0.002 * number)
    return service.ask(number)


@checkpoint
async def release(number: int) -> str:
    return f"released {number}"


async def branch(number: int) -> int:
    return await ask(number)


async def wrapping(number: int) -> int:
    try:
        return await ask(number)
    except ConnectionError as error:
        raise RuntimeError(f"branch {number}") from error


def mapped() -> list[int]:
    return [future.result() for future in call.map(BRANCHES)]


def mapped_and_waited_for() -> list[int]:
    futures = call.map(BRANCHES)
    while not all(future.done() for future in futures):
        pass
    return [future.result() for future in futures]


def submitted() -> list[int]:
    futures = [call.submit(number) for number in BRANCHES]
    concurrent.futures.wait(futures)
    return [future.result() for future in futures]


def submitted_as_completed() -> list[int]:
    futures = [call.submit(number) for number in BRANCHES]
    return sorted(future.result() for future in concurrent.futures.as_completed(futures))


async def gathered() -> list[int]:
    return await asyncio.gather(*(ask(number) for number in BRANCHES))


async def gathered_in_branches() -> list[int]:
    return await asyncio.gather(*(branch(number) for number in BRANCHES))


async def gathered_one_after_another() -> list[int]:
    return await asyncio.gather(*(ask_in_turn(number) for number in BRANCHES))


async def gathered_over_a_map() -> list[int]:
    return await asyncio.gather(*ask.map(BRANCHES))


async def gathered_over_a_map_of_threads() -> list[int]:
    return await asyncio.gather(*call.map(BRANCHES))


async def gathered_twice() -> list[int]:
    halves = (asyncio.gather(*(ask(number) for number in half)) for half in (BRANCHES[:4], BRANCHES[4:]))
    return [number for half in await asyncio.gather(*halves) for number in half]


async def gathered_and_cleaned_up() -> list[int]:
    try:
        return await asyncio.gather(*(wrapping(number) for number in BRANCHES))
    except RuntimeError:
        await release(0)
        raise


async def gathered_and_hidden() -> list[int]:
    try:
        return await asyncio.gather(*(branch(number) for number in BRANCHES))
    except ConnectionError:
        raise RuntimeError("it did not work") from None


async def gathered_with_exceptions() -> list[Any]:
    found = await asyncio.gather(*(ask(number) for number in BRANCHES), return_exceptions=True)
    failed = [error for error in found if isinstance(error, Exception)]
    if failed:
        raise ExceptionGroup("some failed", failed)
    return found


async def grouped() -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(branch(number)) for number in BRANCHES]
    return [task.result() for task in tasks]


async def grouped_one_after_another() -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask_in_turn(number)) for number in BRANCHES]
    return [task.result() for task in tasks]


async def grouped_in_groups() -> list[int]:
    async def half(numbers: range) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wrapping(number)) for number in numbers]
        return [task.result() for task in tasks]

    return [n for found in await asyncio.gather(half(BRANCHES[:4]), half(BRANCHES[4:])) for n in found]


async def grouped_and_unpacked() -> list[int]:
    try:
        return await grouped()
    except* ConnectionError as errors:
        first = errors.exceptions[0]
    raise first


async def as_completed() -> list[int]:
    return sorted([await first for first in asyncio.as_completed([branch(number) for number in BRANCHES])])


async def waited_for() -> list[int]:
    tasks = [asyncio.create_task(branch(number)) for number in BRANCHES]
    await asyncio.wait(tasks)
    return [task.result() for task in tasks]


async def waited_for_the_first_exception() -> list[int]:
    tasks = [asyncio.create_task(branch(number)) for number in BRANCHES]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in pending:
        task.cancel()
    return sorted(task.result() for task in done)


async def each_in_time() -> list[int]:
    return await asyncio.gather(*(asyncio.wait_for(branch(number), 60) for number in BRANCHES))


async def all_in_time() -> list[int]:
    async with asyncio.timeout(60):
        return await gathered()


async def shielded() -> list[int]:
    return await asyncio.gather(*(asyncio.shield(branch(number)) for number in BRANCHES))


async def awaited_one_after_another() -> list[int]:
    tasks = [asyncio.create_task(branch(number)) for number in BRANCHES]
    return [await task for task in tasks]


async def in_threads() -> list[int]:
    return await asyncio.gather(*(asyncio.to_thread(call, number) for number in BRANCHES))


async def limited() -> list[int]:
    free = asyncio.Semaphore(3)

    async def one(number: int) -> int:
        async with free:
            return await ask(number)

    return await asyncio.gather(*(one(number) for number in BRANCHES))


def in_a_pool() -> list[int]:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(contextvars.copy_context().run, call, number) for number in BRANCHES]
    return [future.result() for future in futures]


async def one_after_the_other() -> list[int]:
    first = [ask.submit(number) for number in BRANCHES]
    return await asyncio.gather(*[ask.submit(future) for future in first])


def one_after_the_other_in_threads() -> list[int]:
    first = [call.submit(number) for number in BRANCHES]
    return [future.result() for future in [call.submit(future) for future in first]]


async def cancelled_by_hand() -> list[int]:
    tasks = [asyncio.create_task(branch(number)) for number in BRANCHES]
    try:
        return await asyncio.gather(*tasks)
    except ConnectionError:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def grouped_by_anyio() -> list[int]:
    found: dict[int, int] = {}

    async def one(number: int) -> None:
        found[number] = await ask(number)

    async with anyio.create_task_group() as group:
        for number in BRANCHES:
            group.start_soon(one, number)
    return [found[number] for number in BRANCHES]


async def left_alone() -> list[int]:
    """Fails by itself, before it has looked at what failed beside it."""
    tasks = [asyncio.create_task(branch(number)) for number in BRANCHES]
    await asyncio.wait(tasks)
    if not service.is_up and not service.blips:
        raise RuntimeError("too early")
    return await asyncio.gather(*tasks)


FAILING_TOGETHER = [
    mapped_and_waited_for, submitted, gathered, gathered_in_branches, gathered_over_a_map,
    gathered_over_a_map_of_threads, gathered_twice, gathered_and_cleaned_up, gathered_and_hidden,
    gathered_with_exceptions, grouped, grouped_in_groups, grouped_and_unpacked, as_completed, waited_for, each_in_time,
    all_in_time, cancelled_by_hand, grouped_by_anyio, left_alone, shielded, awaited_one_after_another, in_threads,
]  # fmt: skip
"""All branches are under way when the first failure reaches the flow."""

FAILING_IN_TURN = [
    mapped, submitted_as_completed, gathered_one_after_another, grouped_one_after_another,
    waited_for_the_first_exception, limited,
]  # fmt: skip

SHAPES = FAILING_TOGETHER + FAILING_IN_TURN + [in_a_pool, one_after_the_other, one_after_the_other_in_threads]
