"""A parent that is cut short at any write, and its children too, come to the same end with the same children."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from attempts import Executions, TestExecution

from kitaru import KitaruError, KitaruUserCodeError, checkpoint, flow
from kitaru_registry.executions import ending, queue, reading
from kitaru_registry.executions.journal import Row

DONE: list[str] = []


@checkpoint
def work(number: int) -> int:
    DONE.append(f"work{number}")
    return number * 10


@flow
def child(number: int) -> int:
    return work(number) + 1


@flow
def unlucky(number: int) -> int:
    raise LookupError(f"no {number}")


def parent() -> Any:
    first, second = child.run(1), child.run(2)
    between = work(3)
    try:
        unlucky.run(4).wait()
    except KitaruUserCodeError as error:
        caught = repr(error.__cause__)
    return [first.wait(), second.wait(), between, caught, first.get(), second.status]


async def async_parent() -> Any:
    first, second = child.run(1), child.run(2)
    between = work(3)
    try:
        await unlucky.run(4)
    except KitaruUserCodeError as error:
        caught = repr(error.__cause__)
    return [*await asyncio.gather(first, second.wait()), between, caught, first.get(), second.status]


RESULT = [11, 21, 30, "LookupError('no 4')", 11, "completed"]
BODIES: Mapping[str, Callable[..., Any]] = {"child": child.function, "unlucky": unlucky.function}


def play(executions: Executions, root: TestExecution, body: Any, *, cut: str = "", writes: int | None = None) -> int:
    """Execute the family until its root has ended; how many writes the first attempt at `cut` made before its end.

    Args:
        cut: the flow whose first attempt is cut short.
        writes: after so many.
    """
    for _ in range(60):
        if root.status in ("completed", "failed", "cancelled"):
            return len(root.rows)
        # A running one has lost its process: nothing else executes here.
        for seen in queue.claimable(executions.database):
            found = reading.get_execution(executions.database, seen.exec_id)
            if found.status not in ("pending", "running"):
                continue
            one = TestExecution(executions.database, executions.writer, seen.exec_id, seen.row)
            limit = writes if found.flow == cut else None
            cut = "" if found.flow == cut else cut
            one.attempt(body if found.flow == "flow" else BODIES[found.flow], writes=limit)
    raise AssertionError(f"it never came to an end: {root.record}")


@pytest.mark.parametrize("body", [parent, async_parent])
def test_a_parent_that_is_cut_short_anywhere_has_the_same_children_and_result(
    executions: Executions, body: Any
) -> None:
    whole = executions.new()
    writes = play(executions, whole, body)
    expected = [(row.kind, row.key) for row in whole.rows]
    assert {kind for kind, _ in expected} == {"x", "c", "w", "n"}

    for cut in range(writes + 1):
        root = executions.new()
        play(executions, root, body, cut="flow", writes=cut)

        assert root.result == RESULT, cut
        assert sorted((row.kind, row.key) for row in root.rows) == sorted(expected), cut
        assert [found.key for found in root.record.children] == ["child", "child#2", "unlucky"], cut


@pytest.mark.parametrize("name", ["child", "unlucky"])
def test_a_child_that_is_cut_short_anywhere_gives_its_parent_the_same(executions: Executions, name: str) -> None:
    for cut in range(3):
        root = executions.new()
        play(executions, root, parent, cut=name, writes=cut)

        assert root.result == RESULT, cut


def rows_of(root: TestExecution, kind: str) -> list[Row]:
    return [row for row in root.rows if row.kind == kind]


# Retries


def test_a_retry_of_a_parent_waits_again_for_the_child_that_failed(executions: Executions) -> None:
    tries: list[int] = []

    @flow
    def shaky() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("the first time")
        return "worked"

    def body() -> Any:
        return [work(1), shaky.run().wait()]

    root = play_with(executions, body, {"shaky": shaky.function})
    assert root.status == "failed"
    DONE.clear()
    ending.retry(executions.database, root.exec_id, actor="me")
    play_with(executions, body, {"shaky": shaky.function}, root)

    assert root.result == [10, "worked"]
    assert (len(tries), DONE, len(root.record.children)) == (2, [], 1)


def test_a_retry_of_a_parent_starts_another_child_for_one_that_was_cancelled(executions: Executions) -> None:
    @flow
    def slow() -> str:
        return "done"

    def body() -> Any:
        return slow.run().wait()

    root = executions.new()
    root.attempt(body)
    (below,) = root.record.children
    ending.request_cancel(executions.database, below.exec_id, actor="me")
    record = root.attempt(body)
    assert record.status == "failed"
    assert record.error is not None
    assert (record.error.type, record.error.origin) == ("KitaruExecutionError", "runtime")

    ending.retry(executions.database, root.exec_id, actor="me")
    play_with(executions, body, {"slow": slow.function}, root)

    assert root.result == "done"
    assert [(found.key, found.status) for found in root.record.children] == [
        ("slow", "cancelled"), ("slow", "completed"),
    ]  # fmt: skip


def test_a_child_s_checkpoints_are_not_taken_for_its_parent_s(executions: Executions) -> None:
    """The child fails in its `risky`, the parent has one that succeeded: a retry keeps that."""
    calls: list[str] = []

    @checkpoint
    def risky(name: str) -> str:
        calls.append(name)
        if name == "child" and calls.count("child") == 1:
            raise ConnectionError(name)
        return name

    @flow
    def below() -> str:
        return risky("child")

    def body() -> Any:
        return [risky("parent"), below.run().wait()]

    root = play_with(executions, body, {"below": below.function})
    ending.retry(executions.database, root.exec_id, actor="me")
    play_with(executions, body, {"below": below.function}, root)

    assert root.result == ["parent", "child"]
    assert calls == ["parent", "child", "child"]


def play_with(
    executions: Executions, body: Any, bodies: Mapping[str, Callable[..., Any]], root: TestExecution | None = None
) -> TestExecution:
    root = root or executions.new()
    while root.status not in ("completed", "failed"):
        for seen in queue.claimable(executions.database):
            found = reading.get_execution(executions.database, seen.exec_id)
            if seen.status == "pending":
                one = TestExecution(executions.database, executions.writer, seen.exec_id, seen.row)
                one.attempt(body if found.flow == "flow" else bodies[found.flow])
    return root


# What cannot be started


def test_a_version_that_is_not_there_is_refused_alike_in_every_attempt(executions: Executions) -> None:
    said = []

    def body() -> str:
        try:
            child.invoke(number=1)
        except KitaruError as error:
            said.append(f"{type(error).__name__}: {error}")
        return f"{work(1)}"

    root = executions.new()
    # The call of the child, and that it was refused.
    root.attempt(body, writes=2)
    root.attempt(body)

    assert root.result == "10"
    assert len(said) == 2
    assert said[0] == said[1]
    assert said[0].startswith("KitaruNotFoundError")
    assert [row.key for row in rows_of(root, "x")] == ["child"]


def test_nothing_is_recorded_of_a_cancelled_attempt(executions: Executions) -> None:
    root = executions.new()
    attempt, _, _ = root.begin()

    def body() -> int:
        attempt.cancel()
        return work(1)

    from kitaru_runner.engine.body.body import run_body
    from kitaru_runner.values.failures import ExecutionCancelled

    with pytest.raises(ExecutionCancelled):
        run_body(attempt, body, {})

    assert root.rows == []
    assert root.status == "running"
