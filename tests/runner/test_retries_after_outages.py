"""A retry executes again each failure that the flow has not consumed, whatever its shape is, and nothing else."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import Counter
from collections.abc import Callable, Container
from typing import Any

import pytest
from attempts import Executions, TestExecution

from kitaru import checkpoint
from kitaru_registry.executions.retried import retry_plan

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


@pytest.fixture(autouse=True)
def fresh_service() -> None:
    service.__init__()  # type: ignore[misc]  # anew


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


FAILING_TOGETHER = [
    mapped_and_waited_for, submitted, gathered, gathered_in_branches, gathered_over_a_map,
    gathered_over_a_map_of_threads, gathered_twice, gathered_and_cleaned_up, gathered_and_hidden,
    gathered_with_exceptions, grouped, grouped_in_groups, grouped_and_unpacked, as_completed, waited_for, each_in_time,
    all_in_time, shielded, awaited_one_after_another, in_threads,
]  # fmt: skip
"""All branches are under way when the first failure reaches the flow."""

FAILING_IN_TURN = [
    mapped, submitted_as_completed, gathered_one_after_another, grouped_one_after_another,
    waited_for_the_first_exception, limited,
]  # fmt: skip

SHAPES = FAILING_TOGETHER + FAILING_IN_TURN


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
    with execution.database.read() as connection:
        plan = retry_plan(connection, execution.exec_id)
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


@pytest.mark.parametrize("shape", [one_too_slow, all_too_slow, said_to_be_too_slow], ids=name)
def test_a_time_out_that_ended_the_flow_is_over(execution: TestExecution, shape: Callable[[], Any]) -> None:
    execution.attempt(shape)
    service.is_up = True

    execution.retry()
    execution.attempt(shape)

    assert execution.result == 0
