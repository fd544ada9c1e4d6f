"""`submit`, `map` and `product`: what is passed, in which order, and how much executes at once."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from attempts import PATIENCE_SECONDS, Executions, TestExecution

from kitaru import KitaruBackendError, KitaruUsageError, checkpoint
from kitaru_runner.engine.body.body import run_body

ran: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()
    begun.clear()


begun: list[Any] = []


@checkpoint
def add(one: int, other: int = 0) -> int:
    ran["add"] += 1
    return one + other


@checkpoint
async def add_async(one: int, other: int = 0) -> int:
    ran["add_async"] += 1
    return one + other


@checkpoint
def fail(word: str) -> int:
    raise ValueError(word)


@checkpoint
def note(word: str) -> str:
    begun.append(word)
    return word


def test_an_outcome_that_was_recorded_before_something_failed_is_given(execution: TestExecution) -> None:
    attempt, beside, inputs = execution.begin()
    record = beside.ending.record
    given = []

    def fails_after(entries: Any, recorded: Any) -> int:
        record(entries, recorded)
        raise KitaruBackendError("the disk is gone")

    beside.ending.record = fails_after  # type: ignore[method-assign]  # a disk that fails in between

    run_body(attempt, lambda: given.append(add.submit(1, 2).result()), inputs)

    assert given == [3]
    assert [row.key for row in execution.rows] == ["submit[0]/add"]
    assert attempt.could_not_write is not None


# Arguments that are futures


def nested() -> int:
    return add.submit(add.submit(1, 2), add.submit(3, 4)).result()


def nested_deeply() -> int:
    future = add.submit(1)
    for _ in range(5):
        future = add.submit(future, 1)
    return future.result()


def passed_to_a_call() -> int:
    return add(add.submit(1, 2), other=add.submit(3))


def passed_to_a_map() -> int:
    first = add.submit(5)
    return sum(future.result() for future in add.map([first, add.submit(1)], [1, 2]))


async def nested_on_a_loop() -> int:
    return await add_async.submit(add_async.submit(1, 2), add_async.submit(3, 4))


async def passed_to_a_call_on_a_loop() -> int:
    return await add_async(add_async.submit(1, 2), other=add.submit(3))


async def mixed_on_a_loop() -> int:
    return await add.submit(await add_async.submit(1), 2)


PASSED: dict[Callable[[], Any], int] = {
    nested: 10, nested_deeply: 6, passed_to_a_call: 6, passed_to_a_map: 9,
    nested_on_a_loop: 10, passed_to_a_call_on_a_loop: 6, mixed_on_a_loop: 3,
}  # fmt: skip


@pytest.mark.parametrize("body", PASSED)
def test_a_future_is_passed_as_its_value(execution: TestExecution, body: Callable[[], Any]) -> None:
    execution.attempt(body)

    assert execution.result == PASSED[body]


@pytest.mark.parametrize("body", PASSED)
def test_cut_short_at_any_write_futures_are_passed_alike(executions: Executions, body: Callable[[], Any]) -> None:
    for writes in range(7):
        execution = executions.new()
        execution.attempt(body, writes=writes)
        if execution.status != "completed":
            execution.attempt(body)

        assert execution.result == PASSED[body]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failure_of_what_is_passed_is_that_of_the_call(execution: TestExecution, asynchronous: bool) -> None:
    def body() -> list[str]:
        found = []
        for future in (add.submit(fail.submit("no"), 1), add.submit(1, after=fail.submit("nor this"))):  # type: ignore[call-arg,arg-type]
            with pytest.raises(ValueError, match="no") as caught:
                future.result()
            found.append(str(caught.value))
        return found

    async def body_async() -> list[str]:
        found = []
        for future in (add_async.submit(fail.submit("no"), 1), add_async.submit(1, after=fail.submit("nor this"))):  # type: ignore[call-arg,arg-type]
            with pytest.raises(ValueError, match="no") as caught:
                await future
            found.append(str(caught.value))
        return found

    chosen: Any = body_async if asynchronous else body
    execution.attempt(chosen, writes=2)
    execution.attempt(chosen)

    assert execution.result == ["no", "nor this"]
    assert not ran


@pytest.mark.parametrize("asynchronous", [False, True])
def test_after_is_an_order_and_passes_nothing(execution: TestExecution, asynchronous: bool) -> None:
    gate = threading.Event()

    @checkpoint
    def first() -> None:
        assert gate.wait(PATIENCE_SECONDS)
        begun.append("first")

    @checkpoint
    async def note_async(word: str) -> str:
        return note.function(word)

    def body() -> list[str]:
        before = first.submit()
        later = [note.submit("a", after=before), note.submit("b", after=[before, add.submit(1)])]  # type: ignore[call-arg]
        gate.set()
        later[0].result()
        return [*[future.result() for future in later], note("c", after=before)]  # type: ignore[call-arg]

    async def body_async() -> list[str]:
        before = first.submit()
        later = [note_async.submit("a", after=before), note_async.submit("b", after=[before, add.submit(1)])]  # type: ignore[call-arg]
        gate.set()
        return [*await asyncio.gather(*later), await note_async("c", after=before)]  # type: ignore[call-arg]

    execution.attempt(body_async if asynchronous else body)

    assert execution.result == ["a", "b", "c"]
    assert begun[0] == "first"
    assert sorted(begun[1:3]) == ["a", "b"]


def test_product_is_every_combination_the_last_changing_fastest(execution: TestExecution) -> None:
    execution.attempt(lambda: [future.result() for future in add.product([10, 20], [1, 2, 3])])

    assert execution.result == [11, 12, 13, 21, 22, 23]
    assert sorted(execution.outcomes) == [f"map[{number}]/add" for number in range(6)]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: add.map([1, 2], [1]), "add.map() got iterables that are not equally long"),
        (lambda: add.map(one=[1, 2]), "add.map() has nothing to go through"),
        (lambda: add.map(5), "add.map() cannot go through a value of type int"),
        (lambda: add.map(add.submit(1)), "add.map() cannot go through a value of type CheckpointFuture"),
        (lambda: add.product(), "add.product() has nothing to go through"),
    ],
)
def test_what_a_map_cannot_go_through_is_refused_before_anything_begins(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(KitaruUsageError, match=re.escape(said)) as refused:
        call()
    assert refused.value.hint


def test_an_error_of_a_generator_that_is_mapped_is_its_own() -> None:
    with pytest.raises(ValueError, match="invalid literal") as raised:
        add.map(int(text) for text in ["1", "two"])

    assert not isinstance(raised.value, KitaruUsageError)


def test_maps_of_unequal_lengths_begin_nothing(execution: TestExecution) -> None:
    execution.attempt(lambda: add.map([1, 2], [1]))

    assert execution.status == "failed"
    assert execution.rows == []


def test_outside_of_a_flow_options_of_a_call_change_nothing() -> None:
    before = add.submit(1)

    assert add(before, 2, after=before, id="sum") == 3  # type: ignore[call-arg,arg-type]
    assert add.submit(add.submit(1), 2, after=before).result() == 3  # type: ignore[call-arg,arg-type]
    assert asyncio.run(add_async(before, 2, after=before)) == 3  # type: ignore[call-arg,arg-type]


def test_a_parameter_that_is_called_id_or_after_is_the_function_s(execution: TestExecution) -> None:
    @checkpoint
    def row(id: int, after: int = 0) -> list[int]:
        return [id, after]

    execution.attempt(lambda: [row(id=3, after=4), row.submit(id=5).result(), row.map([6], after=7)[0].result()])

    assert execution.result == [[3, 4], [5, 0], [6, 7]]
    assert sorted(execution.keys) == ["map[0]/row", "row", "submit[0]/row"]


# Names of calls


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_id_names_one_call_of_its_scope(execution: TestExecution, asynchronous: bool) -> None:
    def body() -> list[str]:
        add(1, id="sum")  # type: ignore[call-arg]
        with pytest.raises(KitaruUsageError, match="sum names another call already") as caught:
            add(2, id="sum")  # type: ignore[call-arg]
        return [add(3), caught.value.hint]  # type: ignore[list-item]

    async def body_async() -> list[str]:
        await add_async(1, id="sum")  # type: ignore[call-arg]
        with pytest.raises(KitaruUsageError, match="sum names another call already") as caught:
            await add_async(2, id="sum")  # type: ignore[call-arg]
        return [await add_async(3), caught.value.hint]  # type: ignore[list-item]

    execution.attempt(body_async if asynchronous else body)

    assert execution.result[0] == 3
    assert execution.keys[0] == "sum"
    assert len(execution.keys) == 2


def test_the_same_id_in_two_scopes_is_two_calls(execution: TestExecution) -> None:
    execution.attempt(lambda: [future.result() for future in add.map([1, 2], id="sum")])

    assert sorted(execution.keys) == ["map[0]/sum", "map[1]/sum"]


def test_an_id_and_a_name_do_not_meet(execution: TestExecution) -> None:
    def body() -> Any:
        add(1, id="add")  # type: ignore[call-arg]
        add(2)
        with pytest.raises(KitaruUsageError, match="add names another call"):
            add(3, id="add")  # type: ignore[call-arg]

    execution.attempt(body, writes=1)
    execution.attempt(body)

    assert execution.status == "completed"
    assert execution.outcomes == {"add": 1, "add#2": 2}
