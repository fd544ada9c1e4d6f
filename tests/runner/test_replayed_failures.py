"""Divergence, retries and failures go the same way in every attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from attempts import TestExecution
from replayed import add, double, flaky, ran, refuse

from kitaru import (
    checkpoint,
)
from kitaru_runner.engine.body.body import run_body


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


# Divergence


def test_another_call_at_a_place_stops_and_names_both_and_the_line(execution: TestExecution) -> None:
    def first() -> int:
        return double(1) + double(2) + double(3)

    def edited() -> int:
        return double(1) + flaky(0) + double(3)

    execution.attempt(first, writes=2)
    execution.attempt(edited)

    error = execution.record.error
    assert error is not None
    assert (execution.status, error.type, error.origin) == ("failed", "KitaruDivergenceError", "divergence")
    assert error.message == "call 2 is flaky, but the journal holds double#2 there"
    assert (error.checkpoint, error.file) == ("flaky", __file__)
    assert error.line == edited.__code__.co_firstlineno + 1
    assert "flaky 0" not in ran


def test_divergence_is_not_swallowed_by_a_bare_except(execution: TestExecution) -> None:
    def first() -> int:
        return double(1) + double(2)

    def edited() -> int:
        try:
            return flaky(0)
        except BaseException:
            return double(5)

    execution.attempt(first, writes=1)
    execution.attempt(edited)

    assert execution.status == "failed"
    assert ran == {"double 1": 1, "double 2": 1}


def test_divergence_in_a_branch_names_the_branch(execution: TestExecution) -> None:
    async def step(number: int, *, swapped: bool) -> None:
        if swapped:
            flaky(0)
        await add(number, 0)

    def body(*, swapped: bool) -> Callable[[], Any]:
        async def run() -> None:
            await asyncio.gather(step(1, swapped=False), step(2, swapped=swapped))
            await add(0, 0)

        return run

    execution.attempt(body(swapped=False), writes=2)
    execution.attempt(body(swapped=True))

    error = execution.record.error
    assert error is not None
    assert error.message == "call 1 in task[1] is task[1]/flaky, but the journal holds task[1]/add there"


def test_other_arguments_at_a_place_are_a_recorded_warning(execution: TestExecution) -> None:
    execution.attempt(lambda: double(1) + double(2), writes=1)
    execution.attempt(lambda: double(7) + double(2), writes=1)
    execution.attempt(lambda: double(7) + double(2))

    assert execution.result == 6
    assert execution.keys == ["double", "double!inputs", "double#2"]


# Retries and failures


def test_tries_are_recorded_one_by_one(execution: TestExecution) -> None:
    execution.attempt(lambda: flaky(2))

    assert [(row.kind, row.key, row.tries) for row in execution.rows] == [
        ("t", "flaky", 1), ("t", "flaky", 2), ("c", "flaky", 3),
    ]  # fmt: skip
    assert [(call.key, call.attempts, call.status) for call in execution.record.checkpoints] == [
        ("flaky", 3, "completed")
    ]


def test_failed_tries_are_not_made_again(execution: TestExecution) -> None:
    execution.attempt(lambda: flaky(2), writes=1)
    ran_before = ran["flaky 2"]
    ran["flaky 2"] = 1  # what a new process would know: the one recorded try
    execution.attempt(lambda: flaky(2))

    assert ran_before == 2
    assert [(row.kind, row.tries) for row in execution.rows] == [("t", 1), ("t", 2), ("c", 3)]


def test_a_crash_uses_up_no_try(execution: TestExecution) -> None:
    crashes = 3

    @checkpoint(retries=1)
    def crashing() -> str:
        ran["crashing"] += 1
        if ran["crashing"] <= crashes:
            raise KeyboardInterrupt
        if ran["crashing"] == crashes + 1:
            raise OSError("the one failure")
        return "done"

    for _ in range(crashes):
        engine, _, _ = execution.begin()
        with pytest.raises(KeyboardInterrupt):
            run_body(engine, crashing, {})
    execution.attempt(crashing)

    assert execution.result == "done"
    assert [(row.kind, row.tries) for row in execution.rows] == [("t", 1), ("c", 2)]


def test_the_last_try_s_failure_is_the_outcome(execution: TestExecution) -> None:
    execution.attempt(lambda: flaky(9))

    error = execution.record.error
    assert error is not None
    assert (error.type, error.message, error.checkpoint) == ("ConnectionError", "attempt 3 for 9", "flaky")
    assert error.file == flaky.function.__code__.co_filename
    assert [row.kind for row in execution.rows] == ["t", "t", "c"]


def test_a_caught_failure_replays_alike(execution: TestExecution) -> None:
    seen = []

    def body() -> str:
        try:
            refuse("this")
        except ValueError as error:
            seen.append((type(error), str(error), error.args))
        double(1)
        return "went on"

    execution.attempt(body, writes=1)
    execution.attempt(body)

    assert execution.result == "went on"
    assert ran["refuse this"] == 1
    assert seen == [(ValueError, "not this", ("not this",))] * 2


def test_a_value_that_no_codec_carries_fails_its_checkpoint(execution: TestExecution) -> None:
    @checkpoint
    def generate() -> Any:
        return (number for number in range(3))

    execution.attempt(generate)

    error = execution.record.error
    assert error is not None
    assert (error.type, error.checkpoint) == ("KitaruUsageError", "generate")
    assert "generator" in error.message


def test_what_a_flow_sees_is_always_read_from_its_bytes(execution: TestExecution) -> None:
    shared = ["a"]

    @checkpoint
    def give() -> list[str]:
        return shared

    def body() -> list[str]:
        given = give()
        given.append("b")
        return shared

    execution.attempt(body)

    assert execution.result == ["a"]


def test_a_checkpoint_that_its_caller_cancels_is_a_recorded_outcome(execution: TestExecution) -> None:
    @checkpoint
    async def endless() -> None:
        ran["endless"] += 1
        await asyncio.sleep(3600)

    async def body() -> str:
        try:
            async with asyncio.timeout(0.05):
                await endless()
        except TimeoutError:
            ended = "timed out"
        await add(1, 1)
        return ended

    execution.attempt(body, writes=2)
    execution.attempt(body)

    assert execution.result == "timed out"
    assert ran["endless"] == 1
    assert [(row.kind, row.key) for row in execution.rows] == [("e", "asyncio:timer"), ("c", "endless"), ("c", "add")]


def test_a_flow_s_own_exception_ends_the_execution(execution: TestExecution) -> None:
    def body() -> None:
        double(1)
        raise LookupError("nothing there")

    execution.attempt(body)

    record = execution.record
    assert record.error is not None
    assert (record.status, record.error.type, record.error.message) == ("failed", "LookupError", "nothing there")
    assert (record.error.origin, record.error.checkpoint) == ("user_code", None)
    assert record.error.line == body.__code__.co_firstlineno + 2
    assert "kitaru_runner/" not in (record.error.traceback or "")


def test_sys_exit_in_a_flow_is_its_failure(execution: TestExecution) -> None:
    def body() -> None:
        raise SystemExit(3)

    assert execution.attempt(body).status == "failed"
