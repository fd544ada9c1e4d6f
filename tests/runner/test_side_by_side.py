"""What random programs once found: branches side by side that saw something else in a replay, or never ended."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import as_completed
from typing import Any

import pytest
from attempts import PATIENCE_SECONDS, Executions, TestExecution

from kitaru import Backoff, checkpoint, now, wait
from kitaru_registry.errors import KitaruConflictError


@checkpoint
def double(number: int) -> int:
    return 2 * number


@checkpoint
def refuse(number: int) -> int:
    raise ValueError(f"not {number}")


@checkpoint
async def add(one: int, other: int) -> int:
    await asyncio.sleep(0)
    return one + other


def test_two_branches_may_await_one_future(execution: TestExecution) -> None:
    async def body() -> list[int]:
        future = double.submit(4)

        async def one() -> int:
            return await future

        return await asyncio.gather(one(), one(), one())

    execution.attempt(body)

    assert execution.result == [8, 8, 8]


def test_a_future_outlives_the_branch_that_awaited_it(execution: TestExecution) -> None:
    async def body() -> int:
        future = add.submit(1, 2)

        async def impatient() -> int:
            return await future

        task = asyncio.create_task(impatient())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return await future

    execution.attempt(body)

    assert execution.result == 3


def test_calls_that_a_failure_prevents_end_in_the_recorded_order(executions: Executions) -> None:
    """Each in the place where the flow saw it, among outcomes that came before and after."""
    orders: list[list[Any]] = []

    def body() -> int:
        failed = refuse.submit(1)
        prevented = [double.submit(failed), double.submit(3, after=failed)]
        others = double.map(range(6))
        names = {id(future): number for number, future in enumerate([failed, *prevented, *others])}
        orders.append([names[id(future)] for future in as_completed([failed, *prevented, *others])])
        return double(5)

    for _ in range(10):
        orders.clear()
        execution = executions.new()
        execution.attempt(body, writes=9)
        execution.attempt(body)
        assert orders[0] == orders[1]


def test_a_call_that_is_passed_an_outcome_lets_nobody_hear_of_it_out_of_turn(execution: TestExecution) -> None:
    passed = threading.Event()

    @checkpoint
    def fetch(number: int) -> int:
        if number == 3:
            passed.set()
        return number

    def body() -> list[int]:
        first = fetch.submit(1)
        second = fetch.submit(2, after=first)
        third = fetch.submit(3, after=second)
        assert passed.wait(20)
        return [future.result() for future in as_completed([third, second, first])]

    execution.attempt(body, writes=2)
    passed.clear()
    execution.attempt(body)

    assert execution.result == [1, 2, 3]


def test_a_retry_calls_what_a_failure_had_prevented(executions: Executions) -> None:
    fails = [True, False]

    @checkpoint
    def flaky() -> int:
        if fails.pop(0):
            raise ValueError("at first")
        return 4

    def body() -> int:
        return double.submit(flaky.submit()).result()

    execution = executions.new()
    execution.attempt(body)
    assert execution.status == "failed"
    execution.retry()
    execution.attempt(body)

    assert execution.result == 8


def test_threads_do_not_outlive_a_flow_in_a_long_pause(execution: TestExecution) -> None:
    go_on = threading.Event()

    @checkpoint(retries=1, backoff=Backoff(first=3600))
    def flaky() -> None:
        raise ValueError("at first")

    def body() -> str:
        flaky.submit()
        go_on.wait(PATIENCE_SECONDS)
        return "done"

    before = set(threading.enumerate())
    attempt = execution.attempt_in_thread(body)
    attempt.wait_until_asked()
    go_on.set()
    attempt.join()

    assert execution.result == "done"
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


@pytest.mark.parametrize("early", [True, False])
def test_a_wait_that_is_answered_has_its_turn_as_in_a_replay(executions: Executions, early: bool) -> None:
    """One that was answered early went on at once, and was first in a race; in its replay it was second."""
    winners: list[list[str]] = []

    async def body() -> int:
        async def ask() -> str:
            await wait(name="approve", schema=bool)
            return "ask"

        async def note() -> str:
            await asyncio.sleep(0)
            now()
            return "note"

        left = {asyncio.create_task(ask()), asyncio.create_task(note())}
        seen: list[str] = []
        while left:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            seen += [task.result() for task in done]
        winners.append(seen)
        return await add(1, 2)

    execution = executions.new()
    if early:
        execution.answer_early("approve", True)
    else:
        execution.attempt(body)
        execution.answer("task[0]/approve", True)
    execution.attempt(body, writes=2)
    execution.attempt(body)

    assert winners[0] == winners[-1] == ["note", "ask"]


def test_calls_on_a_loop_that_a_failure_prevents_have_a_place_too(executions: Executions) -> None:
    orders: list[list[Any]] = []

    @checkpoint
    async def fail() -> int:
        raise ValueError("no")

    async def body() -> int:
        failed = fail.submit()
        futures = [failed, add.submit(failed, 1), double.submit(2), double.submit(3)]

        async def outcome(number: int) -> int:
            try:
                await futures[number]
            except ValueError:
                pass
            return number

        tasks = [asyncio.create_task(outcome(number)) for number in range(4)]
        orders.append([await first for first in asyncio.as_completed(tasks)])
        return await add(1, 1)

    for _ in range(10):
        orders.clear()
        execution = executions.new()
        execution.attempt(body, writes=4)
        execution.attempt(body)
        assert orders[0] == orders[1]


def test_coroutines_as_they_are_completed_have_scopes_in_their_order(executions: Executions) -> None:
    """asyncio makes a set of them, and tasks in the order of that."""
    execution = executions.new()

    async def body() -> list[int]:
        return sorted([await first for first in asyncio.as_completed([add(number, 0) for number in range(20)])])

    execution.attempt(body)

    assert execution.result == list(range(20))
    assert execution.outcomes == {f"task[{number}]/add": number for number in range(20)}


def test_a_parked_process_that_stayed_may_go_on_by_itself(execution: TestExecution) -> None:
    """A timer of the flow's own that was far away when it parked."""
    loops: list[asyncio.AbstractEventLoop] = []
    over = asyncio.Event()

    async def body() -> list[Any]:
        loops.append(asyncio.get_running_loop())
        asking = asyncio.create_task(ask())
        await over.wait()
        asking.cancel()
        return [await add(1, 2), await ask()]

    async def ask() -> Any:
        return await wait(name="approve", schema=bool)

    attempt = execution.attempt_in_thread(body)
    attempt.wait_until_parked()
    attempt.ending.parked.clear()
    loops[0].call_soon_threadsafe(over.set)
    attempt.wait_until_parked()
    assert execution.keys == ["task[0]/approve", "add"]
    execution.answer("approve", True)
    attempt.hear()
    attempt.join()

    assert attempt.raised == []
    assert execution.result == [3, True]
    assert execution.record.attempt == 1


# A flow's own time-outs


def test_a_call_that_is_given_up_in_a_pause_is_not_made_in_a_replay(execution: TestExecution) -> None:
    ran = []

    @checkpoint(retries=1, backoff=Backoff(first=4.0))
    async def flaky() -> str:
        ran.append("flaky")
        if len(ran) == 1:
            raise ValueError("at first")
        return "too late"

    async def body() -> list[Any]:
        try:
            found = await asyncio.wait_for(asyncio.create_task(outcome()), 0.05)
        except TimeoutError:
            found = "given up"
        return [found, await add(1, 2)]

    async def outcome() -> str:
        return await flaky()

    execution.attempt(body, writes=4)
    assert execution.keys == ["task[0]/flaky", "asyncio:timer", "task[0]/flaky", "add"]
    execution.attempt(body)

    assert execution.result == ["given up", 3]
    assert ran == ["flaky"]


def test_a_time_out_keeps_its_place_among_outcomes(executions: Executions) -> None:
    orders: list[list[str]] = []

    async def body() -> int:
        timed_out = asyncio.Event()

        @checkpoint
        async def hang() -> None:
            await asyncio.Event().wait()

        @checkpoint
        async def after() -> str:
            await timed_out.wait()
            return "after"

        async def impatient() -> str:
            try:
                async with asyncio.timeout(0.2):
                    await hang()
            except TimeoutError:
                timed_out.set()
            return "impatient"

        async def patient() -> str:
            return await after()

        left = {asyncio.create_task(impatient()), asyncio.create_task(patient())}
        seen: list[str] = []
        while left:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            seen += [task.result() for task in done]
        orders.append(seen)
        return await add(1, 2)

    execution = executions.new()
    execution.attempt(body, writes=3)
    execution.attempt(body)

    assert orders == [["impatient", "after"], ["impatient", "after"]]


def test_a_wait_that_is_given_up_is_closed_and_stays_so(execution: TestExecution) -> None:
    async def body() -> list[Any]:
        try:
            async with asyncio.timeout(0.05):
                found = await wait(name="approve", schema=bool)
        except TimeoutError:
            found = "given up"
        return [found, await add(1, 2)]

    execution.attempt(body, writes=3)
    assert execution.keys == ["asyncio:timer", "approve", "add"]
    with pytest.raises(KitaruConflictError, match="is closed"):
        execution.answer("approve", True)
    execution.attempt(body)

    assert execution.result == ["given up", 3]
