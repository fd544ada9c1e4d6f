"""What the journal holds is given again, and never executed again, wherever an attempt was cut short."""

from __future__ import annotations

import asyncio
import concurrent.futures
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, as_completed

import pytest
from attempts import Executions, TestExecution
from replayed import RESULT, add, double, everything, ran, slow_double

from kitaru import (
    checkpoint,
)


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


def test_a_second_attempt_executes_only_what_was_not_recorded(execution: TestExecution) -> None:
    def body() -> int:
        return double(1) + double(2) + double(3)

    execution.attempt(body, writes=2)
    execution.attempt(body)

    assert execution.result == 12
    assert ran == {"double 1": 1, "double 2": 1, "double 3": 2}  # the third had run, and was not recorded
    assert execution.keys == ["double", "double#2", "double#3"]


@pytest.mark.parametrize("writes", range(15))
def test_cut_short_at_any_write_the_result_is_that_of_an_uninterrupted_run(
    executions: Executions, execution: TestExecution, writes: int
) -> None:
    uninterrupted = executions.new()
    uninterrupted.attempt(everything)
    ran.clear()

    execution.attempt(everything, writes=writes)
    before = execution.rows
    recorded = {row.key for row in before if row.kind == "c"}
    ran_before = Counter(ran)
    execution.attempt(everything)

    assert execution.result == uninterrupted.result == RESULT
    assert execution.rows[: len(before)] == before
    assert set(execution.keys) == set(uninterrupted.keys)
    again = {name for name in ran if ran[name] > ran_before[name]}
    for number in range(3):
        if "double" + (f"#{number + 1}" if number else "") in recorded:
            assert f"double {number}" not in again
    for number in range(4):
        if f"map[{number}]/slow_double" in recorded:
            assert f"slow_double {number}" not in again


def test_interrupted_at_every_write_it_still_gets_to_its_end(execution: TestExecution) -> None:
    attempts = 0
    while execution.status != "completed":
        execution.attempt(everything, writes=1)
        attempts += 1
        assert attempts < 30

    assert execution.result == RESULT
    assert execution.record.attempt == attempts


def test_an_execution_whose_checkpoints_are_all_recorded_executes_none(execution: TestExecution) -> None:
    execution.attempt(everything, writes=14)  # all but the end itself
    before = Counter(ran)
    rows = execution.rows

    execution.attempt(everything)

    assert execution.result == RESULT
    assert ran == before
    assert execution.rows == rows


# Order


Order = list[list[int]]


def orders_seen(executions: Executions, body: Callable[[], Order], *, writes: Sequence[int | None]) -> list[Order]:
    """What the body saw in each attempt that got to its end; the attempts are cut short after so many writes."""
    execution = executions.new()
    orders: list[Order] = []

    def noted() -> Order:
        orders.append(body())
        double(99)
        return orders[-1]

    for allowed in writes:
        execution.attempt(noted, writes=allowed)
    return orders


@pytest.mark.parametrize("writes", [(12, None), (12, 1, None), (5, 7, None), (1, 2, 3, 6, None)])
def test_as_completed_gives_the_recorded_order(executions: Executions, writes: Sequence[int]) -> None:
    def body() -> Order:
        return [[future.result() for future in as_completed(slow_double.map(range(12)))]]

    first, *later = orders_seen(executions, body, writes=writes)

    assert sorted(first[0]) == [2 * number for number in range(12)]
    assert all(order == first for order in later)
    assert later


@pytest.mark.parametrize("writes", [(6, None), (6, 1, None), (2, 4, None)])
def test_wait_for_the_first_gives_the_recorded_order(executions: Executions, writes: Sequence[int]) -> None:
    def body() -> Order:
        open_ones = set(slow_double.map(range(6)))
        order = []
        while open_ones:
            done, open_ones = concurrent.futures.wait(open_ones, return_when=FIRST_COMPLETED)
            order.append([future.result() for future in done])
        return order

    for _ in range(3):
        first, *later = orders_seen(executions, body, writes=writes)
        assert all(order == first for order in later)
        assert later


def test_a_race_that_is_left_early_goes_the_same_way(executions: Executions) -> None:
    def body() -> Order:
        futures = slow_double.map(range(8))
        first = next(as_completed(futures)).result()
        time.sleep(0.005)
        done, pending = concurrent.futures.wait(futures, return_when=FIRST_COMPLETED)
        early = [future.result() for future in done]
        done, _ = concurrent.futures.wait(pending)
        return [[first], early, [future.result() for future in done]]

    for _ in range(5):
        first, *later = orders_seen(executions, body, writes=(8, None))
        assert later == [first]


def test_the_sets_of_wait_are_iterated_in_one_order(executions: Executions) -> None:
    def body() -> Order:
        futures = slow_double.map(range(30))
        futures[7].result()
        return [
            [future.result() for future in concurrent.futures.wait(futures).done],
            [future.result() for future in as_completed(futures)],
        ]

    first, *later = orders_seen(executions, body, writes=(30, None))

    assert later == [first]


def test_a_future_that_is_polled_ends_in_a_replay_too(executions: Executions) -> None:
    def body() -> Order:
        future = slow_double.submit(3)
        while not future.done():
            time.sleep(0.001)
        return [[future.result()]]

    assert orders_seen(executions, body, writes=(1, None)) == [[[6]], [[6]]]


def test_a_callback_of_a_future_is_called_in_every_attempt(executions: Executions) -> None:
    def body() -> Order:
        called: list[int] = []
        there = threading.Event()
        future = slow_double.submit(3)
        future.add_done_callback(lambda ended: called.append(ended.result()))
        future.add_done_callback(lambda _: there.set())
        assert there.wait(10)
        return [called]

    assert orders_seen(executions, body, writes=(1, None)) == [[[6]], [[6]]]


def test_futures_awaited_on_a_loop_come_in_recorded_order(executions: Executions) -> None:
    orders: list[list[int]] = []

    async def body() -> int:
        order = [await first for first in asyncio.as_completed(slow_double.map(range(8)))]
        orders.append(order)
        return await add(order[0], order[1])

    for _ in range(3):
        orders.clear()
        execution = executions.new()
        execution.attempt(body, writes=8)
        execution.attempt(body)
        assert orders[0] == orders[1]
        assert execution.result == orders[0][0] + orders[0][1]


def test_asyncio_wait_for_the_first_gives_the_recorded_order(executions: Executions) -> None:
    orders: list[Order] = []

    async def body() -> int:
        tasks = [asyncio.create_task(add(number, 0)) for number in range(6)]
        pending = set(tasks)
        order = []
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            order.append([task.result() for task in done])
        order.append([task.result() for task in (await asyncio.wait(tasks))[0]])
        orders.append(order)
        return await add(99, 99)

    for _ in range(5):
        orders.clear()
        execution = executions.new()
        execution.attempt(body, writes=6)
        execution.attempt(body)
        assert sorted(value for values in orders[0][:-1] for value in values) == list(range(6))
        assert orders[0] == orders[1]


def test_an_async_race_has_one_winner(executions: Executions) -> None:
    @checkpoint
    async def racer(name: str) -> str:
        await asyncio.sleep(random.random() / 500)
        return name

    winners: list[str] = []

    async def body() -> str:
        tasks = [asyncio.create_task(racer(name)) for name in "abc"]
        for first in asyncio.as_completed(tasks):
            winners.append(await first)
            break
        await asyncio.gather(*tasks)
        return await racer(winners[-1])

    for _ in range(10):
        winners.clear()
        execution = executions.new()
        execution.attempt(body, writes=3)
        execution.attempt(body)
        assert execution.result == winners[0] == winners[-1]


@pytest.mark.parametrize("writes", range(9))
def test_an_async_flow_cut_short_at_any_write_ends_alike(execution: TestExecution, writes: int) -> None:
    async def branch(number: int) -> int:
        return await add(await add(number, 1), 10)

    async def body() -> list[int]:
        found = await asyncio.gather(*(branch(number) for number in range(4)))
        return [*found, await add(sum(found), 0)]

    execution.attempt(body, writes=writes)
    recorded = execution.outcomes
    before = Counter(ran)
    execution.attempt(body)

    assert execution.result == [11, 12, 13, 14, 50]
    assert {key: execution.outcomes[key] for key in recorded} == recorded
    assert sum(ran.values()) - sum(before.values()) == 9 - len(recorded)


def test_a_future_that_nobody_looks_at_is_recorded_and_replayed(execution: TestExecution) -> None:
    def body() -> int:
        slow_double.submit(1)
        return double(2)

    execution.attempt(body, writes=1)
    execution.attempt(body)

    assert execution.result == 4
