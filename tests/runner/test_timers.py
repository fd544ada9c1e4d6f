"""Timers of a flow's own: recorded when they are over, and over in their turn again; and how long ago one began."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from attempts import TestExecution

from kitaru import checkpoint, testing
from kitaru_registry.clock import now_us
from kitaru_registry.journal.entries import Encoded, Entry, Opening
from kitaru_runner.engine.aio.timers import passed

DAY_US = 86_400_000_000


@checkpoint
async def add(one: int, other: int) -> int:
    await asyncio.sleep(0.1)
    return one + other


def test_a_sleep_that_was_over_is_over_at_once(execution: TestExecution) -> None:
    seconds = [0.01, 3600.0]

    async def body() -> int:
        await asyncio.sleep(seconds.pop(0))
        return await add(1, 2)

    execution.attempt(body, writes=2)
    execution.attempt(body)

    assert execution.result == 3
    assert execution.keys == ["asyncio:timer", "add"]


def test_a_time_out_that_an_outcome_came_before_is_none_in_a_replay(execution: TestExecution) -> None:
    took_seconds = [0.5, 0.0]

    async def body() -> list[Any]:
        first = await add(1, 1)
        time.sleep(took_seconds.pop(0))
        try:
            second = await asyncio.wait_for(add(2, 2), 0.4)
        except TimeoutError:
            second = -1
        return [first, second, await add(3, 3)]

    execution.attempt(body, writes=2)
    execution.attempt(body)

    assert execution.result == [2, 4, 6]


def test_what_times_a_checkpoint_s_body_is_not_recorded(execution: TestExecution) -> None:
    async def body() -> int:
        return await add(1, 2)

    execution.attempt(body)

    assert execution.keys == ["add"]


def test_a_limit_that_more_was_recorded_behind_counts_the_time_between_attempts(
    execution: TestExecution, clock: testing.Clock
) -> None:
    async def body() -> str:
        await add(1, 1)
        try:
            async with asyncio.timeout(60):
                await add(2, 2)
                await add(3, 3)
        except TimeoutError:
            return "over"
        return "never"

    execution.attempt(body, writes=2)
    clock.advance(minutes=2)
    execution.attempt(body)

    assert execution.result == "over"


def test_one_that_may_be_new_has_all_of_its_time(execution: TestExecution, clock: testing.Clock) -> None:
    async def body() -> int:
        await add(1, 1)
        return await asyncio.wait_for(add(2, 2), 60)

    execution.attempt(body, writes=1)
    clock.advance(minutes=2)
    execution.attempt(body)

    assert execution.result == 4


def test_a_timer_that_is_cancelled_is_not_recorded(execution: TestExecution) -> None:
    async def body() -> int:
        return await asyncio.wait_for(add(1, 2), 60)

    execution.attempt(body)

    assert [key.rpartition("/")[2] for key in execution.keys] == ["add"]


# How long ago it began


def opening(*entries: Entry, replay: dict[str, Any] | None = None) -> Opening:
    return Opening("id", 2, "flow", "flows.py:flow", 0, Encoded("json", b"{}"), entries, replay=replay)


def entry(seq: int, begun_us: int | None, ended_us: int, *, kind: str = "c") -> Entry:
    return Entry(kind, f"call{seq}", ended_us, seq=seq, started_us=begun_us)


def test_it_begins_with_what_began_first() -> None:
    found, _ = passed(opening(entry(1, 20, 30), entry(2, 10, 50)))

    assert found == {1: 20, 2: 40}


def test_the_time_between_two_attempts_counts() -> None:
    found, origin = passed(opening(entry(1, 10, 20), entry(2, DAY_US, DAY_US + 5)))

    assert found == {1: 10, 2: DAY_US - 5}
    assert origin == 10


def test_the_time_before_a_retry_does_not() -> None:
    found, origin = passed(opening(entry(1, 10, 20), entry(2, None, DAY_US, kind="r"), entry(3, DAY_US, DAY_US + 5)))

    assert found == {1: 10, 2: 10, 3: 15}
    assert DAY_US + 7 - origin == 17


def test_the_time_between_an_execution_and_its_replay_does_not() -> None:
    copied = {"copied": 1}
    found, _ = passed(opening(entry(1, 10, 20), entry(2, DAY_US, DAY_US + 5), replay=copied))
    _, origin = passed(opening(entry(1, 10, 20), replay=copied))

    assert found == {1: 10, 2: 15}
    assert now_us() - origin < DAY_US
