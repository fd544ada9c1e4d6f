"""`max_concurrency`: how many calls execute at once, and in which order the others follow."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from attempts import PATIENCE_SECONDS, Executions, TestExecution

from kitaru import Backoff, checkpoint, testing

ran: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()
    begun.clear()


begun: list[Any] = []


# How much at once


class Meter:
    """Counts what executes at once. Whoever enters stays until enough are there, or the limit can be seen to hold."""

    def __init__(self, expected: int) -> None:
        self._condition = threading.Condition()
        self._inside = 0
        self.most = 0
        self._expected = expected
        self.order: list[Any] = []

    @contextmanager
    def inside(self, what: Any = None) -> Iterator[None]:
        with self._condition:
            self.order.append(what)
            self._inside += 1
            self.most = max(self.most, self._inside)
            self._condition.notify_all()
            # As many as may be are there at once: a limit that is never reached would show nothing.
            self._condition.wait_for(lambda: self.most >= self._expected, PATIENCE_SECONDS)
        yield
        with self._condition:
            self._inside -= 1


def metered(meter: Meter, *, asynchronous: bool, **options: Any) -> Any:
    def work(number: int) -> int:
        with meter.inside(number):
            return number

    async def work_async(number: int) -> int:
        meter._inside += 1
        meter.order.append(number)
        meter.most = max(meter.most, meter._inside)
        for _ in range(20):
            await asyncio.sleep(0)
        meter._inside -= 1
        return number

    return checkpoint(**options)(work_async if asynchronous else work)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("own", "of_the_map", "at_once"), [(2, None, 2), (None, 3, 3), (2, 5, 2), (5, 2, 2), (1, None, 1), (None, None, 8)]
)
def test_no_more_execute_at_once_than_both_limits_allow(
    execution: TestExecution, own: int | None, of_the_map: int | None, at_once: int, asynchronous: bool
) -> None:
    meter = Meter(at_once)
    work = metered(meter, asynchronous=asynchronous, max_concurrency=own)

    def body() -> list[int]:
        return [future.result() for future in work.map(range(8), max_concurrency=of_the_map)]

    async def body_async() -> list[int]:
        return list(await asyncio.gather(*work.map(range(8), max_concurrency=of_the_map)))

    execution.attempt(body_async if asynchronous else body)

    assert execution.result == list(range(8))
    assert meter.most == at_once


def test_the_limit_of_a_decorator_holds_over_maps_submits_and_gathers(executions: Executions) -> None:
    meter = Meter(2)
    work = metered(meter, asynchronous=False, max_concurrency=2)
    execution = executions.new()

    execution.attempt(
        lambda: [f.result() for f in [*work.map(range(3)), work.submit(3), *work.product([4, 5]), work.submit(6)]]
    )

    assert (execution.result, meter.most) == (list(range(7)), 2)

    meter = Meter(2)
    awaited = metered(meter, asynchronous=True, max_concurrency=2)

    async def body() -> list[int]:
        return list(await asyncio.gather(*[awaited(number) for number in range(3)], *awaited.map(range(3, 6))))

    execution = executions.new()
    execution.attempt(body)

    assert (execution.result, meter.most) == (list(range(6)), 2)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_waits_for_room_begins_in_order(execution: TestExecution, asynchronous: bool) -> None:
    meter = Meter(1)
    work = metered(meter, asynchronous=asynchronous, max_concurrency=1)

    def body() -> list[int]:
        return [future.result() for future in work.map(range(10))]

    async def body_async() -> list[int]:
        return list(await asyncio.gather(*work.map(range(10))))

    execution.attempt(body_async if asynchronous else body)

    assert meter.order == list(range(10))


def test_two_checkpoints_of_one_name_have_limits_of_their_own(execution: TestExecution) -> None:
    meter = Meter(2)

    class First:
        @staticmethod
        @checkpoint(max_concurrency=1)
        def work(number: int) -> None:
            with meter.inside():
                pass

    class Second:
        @staticmethod
        @checkpoint(max_concurrency=1)
        def work(number: int) -> None:
            with meter.inside():
                pass

    execution.attempt(lambda: [f.result() for f in (First.work.submit(1), Second.work.submit(2))])

    assert (execution.status, meter.most) == ("completed", 2)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_call_that_depends_on_another_of_its_lane_does_not_stop_it(
    execution: TestExecution, clock: testing.Clock, asynchronous: bool
) -> None:
    """Its room is another's while it waits; a pause gives room away too."""

    def step(number: int, before: int = 0) -> int:
        ran[str(number)] += 1
        if number == 0 and ran["0"] == 1:
            raise ConnectionError("again")
        return number + before

    async def step_async(number: int, before: int = 0) -> int:
        return step(number, before)

    options: dict[str, Any] = {"max_concurrency": 1, "retries": 1, "backoff": Backoff(first=3600, jitter=0)}
    made: Any = checkpoint(**options)(step_async if asynchronous else step)

    def body() -> list[int]:
        first = made.submit(0)
        second = made.submit(1, first)
        return [made.submit(2).result(), second.result(), first.result()]

    async def body_async() -> list[int]:
        first = made.submit(0)
        second = made.submit(1, first)
        return [await made.submit(2), await second, await first]

    chosen: Any = body_async if asynchronous else body
    execution.attempt(chosen)
    assert execution.status == "waiting"
    assert [(row.kind, row.key.partition("/")[0]) for row in execution.rows] == [("t", "submit[0]"), ("c", "submit[2]")]

    execution.let_pass(clock, 3600)
    execution.attempt(chosen)
    assert execution.result == [2, 1, 0]
    assert (ran["1"], ran["2"]) == (1, 1)
