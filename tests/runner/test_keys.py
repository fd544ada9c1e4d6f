"""A checkpoint's key is its place in the flow's structure, whatever branch was faster."""

from __future__ import annotations

import asyncio
import random
import time
from concurrent.futures import as_completed, wait
from typing import Any

import pytest
from attempts import Executions, TestExecution

from kitaru import KitaruUsageError, checkpoint


@checkpoint
def research(topic: str) -> str:
    return f"notes on {topic}"


@checkpoint
def outline(topic: str) -> list[str]:
    return [research(topic), research(topic)]


@checkpoint
async def fetch(page: int) -> int:
    await asyncio.sleep(random.random() / 500)
    return page


@checkpoint
async def rank(page: int) -> int:
    await asyncio.sleep(random.random() / 500)
    return page * 10


def test_calls_of_a_name_are_numbered_in_their_scope(execution: TestExecution) -> None:
    def body() -> None:
        research("a")
        research("b")
        outline("c")
        research("d")

    execution.attempt(body)

    assert execution.keys == [
        "research", "research#2", "outline/try1/research", "outline/try1/research#2", "outline", "research#3",
    ]  # fmt: skip


def test_submit_and_map_open_a_scope_for_each_element(execution: TestExecution) -> None:
    def body() -> None:
        futures = [research.submit("a"), *research.map(["b", "c"]), research.submit("d"), *research.map(["e"])]
        wait(futures)

    execution.attempt(body)

    assert execution.outcomes == {
        "submit[0]/research": "notes on a",
        "map[0]/research": "notes on b",
        "map[1]/research": "notes on c",
        "submit[1]/research": "notes on d",
        "map#2[0]/research": "notes on e",
    }


def test_a_task_is_a_scope(execution: TestExecution) -> None:
    async def branch(page: int) -> int:
        return await rank(await fetch(page))

    async def body() -> None:
        await fetch(0)
        await asyncio.gather(branch(1), branch(2))
        async with asyncio.TaskGroup() as group:
            group.create_task(branch(3))

    execution.attempt(body)

    assert execution.outcomes == {
        "fetch": 0,
        "task[0]/fetch": 1, "task[0]/rank": 10,
        "task[1]/fetch": 2, "task[1]/rank": 20,
        "task[2]/fetch": 3, "task[2]/rank": 30,
    }  # fmt: skip


def test_async_submit_and_map_have_the_keys_of_sync_ones(execution: TestExecution) -> None:
    async def body() -> list[int]:
        one = fetch.submit(0)
        return [await one, *[await future for future in fetch.map([1, 2])]]

    execution.attempt(body)

    assert execution.result == [0, 1, 2]
    assert execution.outcomes == {"submit[0]/fetch": 0, "map[0]/fetch": 1, "map[1]/fetch": 2}


def test_id_names_a_call(execution: TestExecution) -> None:
    def body() -> None:
        research("a", id="first")  # type: ignore[call-arg]
        research.submit("b", id="second").result()  # type: ignore[call-arg]
        research("c")

    execution.attempt(body)

    assert execution.keys == ["first", "submit[0]/second", "research"]
    assert [call.name for call in execution.record.checkpoints] == ["research"] * 3


def test_an_id_with_a_slash_is_refused(execution: TestExecution) -> None:
    def body() -> None:
        with pytest.raises(KitaruUsageError, match="a/b"):
            research("a", id="a/b")  # type: ignore[call-arg]

    assert execution.attempt(body).status == "completed"


def test_five_branches_of_two_steps_have_one_map_of_keys_in_thirty_runs(executions: Executions) -> None:
    async def branch(page: int) -> int:
        return await rank(await fetch(page))

    async def body() -> list[int]:
        return await asyncio.gather(*(branch(page) for page in range(5)))

    maps: list[dict[str, Any]] = []
    orders = set()
    for _ in range(30):
        execution = executions.new()
        execution.attempt(body)
        maps.append(execution.outcomes)
        orders.add(tuple(execution.keys))

    assert all(found == maps[0] for found in maps)
    assert len(maps[0]) == 10
    assert len(orders) > 1, "the branches never overtook each other, so this shows nothing"


def test_threads_that_overtake_each_other_keep_their_keys(executions: Executions) -> None:
    @checkpoint
    def slow(number: int) -> int:
        time.sleep(random.random() / 200)
        return number

    def body() -> None:
        for future in as_completed(slow.map(range(8))):
            future.result()

    maps = []
    for _ in range(5):
        execution = executions.new()
        execution.attempt(body)
        maps.append(execution.outcomes)

    assert all(found == {f"map[{number}]/slow": number for number in range(8)} for found in maps)
