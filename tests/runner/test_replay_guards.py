"""What the engine makes of a replay's journal: guarded effects, given outcomes, and where it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from attempts import Executions, TestExecution
from replayed import add, double, everything, ran

from kitaru import checkpoint, sleep, wait, wait_any
from kitaru_registry.executions import creating, ending, queue, replays
from kitaru_registry.executions.ids import new_execution_id
from kitaru_registry.executions.replaying import Wanted, parse_overrides, plan
from kitaru_runner.values import codec
from kitaru_runner.values.failures import ExecutionCancelled


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@checkpoint(replay="never")
def charge(amount: int) -> str:
    ran[f"charge {amount}"] += 1
    return f"paid {amount}"


@checkpoint(replay="never")
async def charge_soon(amount: int) -> str:
    ran[f"charge {amount}"] += 1
    return f"paid {amount}"


class Replay:
    """Makes replays of executions that ran in this process."""

    def __init__(self, executions: Executions) -> None:
        self._executions = executions

    def __call__(
        self, execution: TestExecution, from_: str | None = None, *, only_recorded: bool = False, **overrides: Any
    ) -> TestExecution:
        database, writer = self._executions.database, self._executions.writer
        original = replays.read_original(database, execution.exec_id)
        given = {name.replace("_", ".", 1): value for name, value in overrides.items()}
        made = plan(original.known, Wanted(from_, parse_overrides(given)))
        row = original.row
        new = creating.NewExecution(
            exec_id=new_execution_id(), project="default", flow="flow", kind="deployed", inputs={},
            inputs_codec=row.inputs_codec, inputs_data=row.inputs_data, input_digest="", actor="me@laptop",
            replay={"of": row.exec_id, "from": made.begins_at, "only_recorded": only_recorded},
        )  # fmt: skip
        values = {it.key: codec.encode(it.override.value) for it in made.given}
        stored = {key: replays.stored(database, it.codec, it.data) for key, it in values.items()}
        answers = {key: override.value for key, override in made.answers.items()}
        replays.create_replay(database, new, original, made, values=stored, answers=answers)
        return TestExecution(database, writer, new.exec_id, queue.candidate(database, new.exec_id).row)


@pytest.fixture
def replay(executions: Executions) -> Replay:
    return Replay(executions)


def test_a_guarded_effect_behind_the_beginning_is_not_done_again(execution: TestExecution, replay: Replay) -> None:
    def body() -> list[Any]:
        return [double(1), charge(5), double(2)]

    execution.attempt(body)
    again = replay(execution, "double")
    again.attempt(body)

    assert again.result == [2, "paid 5", 4]
    assert ran == {"double 1": 2, "charge 5": 1, "double 2": 2}


def test_nor_where_it_is_called_with_other_arguments(execution: TestExecution, replay: Replay) -> None:
    execution.attempt(lambda: [double(1), charge(5)])
    again = replay(execution, "double")
    again.attempt(lambda: [double(1), charge(6)])

    assert again.result == [2, "paid 5"]
    assert "charge 6" not in ran


async def asynchronous() -> list[Any]:
    return [await add(1, 1), await charge_soon(5)]


@pytest.mark.parametrize(
    ("body", "key"),
    [(lambda: [double(1), charge(5)], "charge"), (asynchronous, "charge_soon")],
    ids=["sync", "async"],
)
def test_one_that_was_cut_short_is_refused_and_can_be_given_its_outcome(
    execution: TestExecution, replay: Replay, body: Callable[[], Any], key: str
) -> None:
    execution.attempt(body, writes=1)
    refused = replay(execution)
    refused.attempt(body)

    error = refused.record.error
    assert error is not None
    assert (error.type, refused.status) == ("KitaruStateError", "failed")
    assert f'checkpoint {key} is guarded by replay="never"' in error.message
    assert ran["charge 5"] == 1

    given = replay(refused, **{f"checkpoint_{key}": "paid by hand"})
    given.attempt(body)

    assert given.result == [2, "paid by hand"]
    assert ran["charge 5"] == 1


def test_going_on_after_a_crash_is_no_replay_and_executes_it(execution: TestExecution) -> None:
    execution.attempt(lambda: [double(1), charge(5)], writes=1)
    execution.attempt(lambda: [double(1), charge(5)])

    assert execution.result == [2, "paid 5"]


def test_only_what_is_recorded_is_used_up_to_the_first_call_that_is_not(
    execution: TestExecution, replay: Replay
) -> None:
    execution.attempt(lambda: [double(1), double(2)])
    again = replay(execution, only_recorded=True)

    with pytest.raises(ExecutionCancelled):
        again.attempt(lambda: [double(1), double(2), double(3)])

    assert (again.status, again.record.status_reason) == ("cancelled", "stopped before double#3, which is not recorded")
    assert ran == {"double 1": 1, "double 2": 1}


@pytest.mark.parametrize("stand", [lambda: wait(name="approve"), lambda: sleep(3600)], ids=["wait", "sleep"])
def test_it_asks_nobody_and_waits_for_no_time(
    execution: TestExecution, replay: Replay, stand: Callable[[], Any]
) -> None:
    execution.attempt(lambda: [double(1)])
    again = replay(execution, only_recorded=True)

    with pytest.raises(ExecutionCancelled):
        again.attempt(lambda: [double(1), stand()])

    assert again.status == "cancelled"
    assert again.record.pending_waits == ()


def test_one_that_goes_the_same_way_to_its_end_completes(execution: TestExecution, replay: Replay) -> None:
    execution.attempt(lambda: [double(1), double(2)])
    again = replay(execution, only_recorded=True)
    again.attempt(lambda: [double(1), double(2)])

    assert again.result == [2, 4]


def test_an_outcome_that_was_given_is_used_whatever_the_arguments_are(execution: TestExecution, replay: Replay) -> None:
    execution.attempt(lambda: [double(1), double(2), double(3)])
    again = replay(execution, "double", **{"checkpoint_double#3": 60})
    again.attempt(lambda: [double(1), double(2), double(30)])

    assert again.result == [2, 4, 60]
    assert "double 30" not in ran


def test_one_that_is_not_called_is_passed_over(execution: TestExecution, replay: Replay) -> None:
    execution.attempt(lambda: [double(1), double(2)])
    again = replay(execution, "double", **{"checkpoint_double#2": 40})
    again.attempt(lambda: [double(1)])

    assert again.result == [2]


def test_a_replay_survives_crashes_like_any_execution(execution: TestExecution, replay: Replay) -> None:
    def body() -> list[Any]:
        return [double(1), charge(5), *[future.result() for future in double.map([2, 3])]]

    execution.attempt(body)
    ran.clear()
    again = replay(execution, "double")
    while again.status not in ("completed", "failed"):
        again.attempt(body, writes=1)

    assert again.result == [2, "paid 5", 4, 6]
    assert "charge 5" not in ran
    assert [row.seq for row in again.rows] == list(range(1, len(again.rows) + 1))


async def branches() -> list[Any]:
    async def branch(number: int) -> int:
        one = await add(number, 1)
        return await add(one, await add(number, 2))

    first = await asyncio.gather(*(branch(number * 10) for number in range(3)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(branch(number)) for number in first]
    return [*first, *(task.result() for task in tasks), await add(100, 100)]


@pytest.mark.parametrize("body", [branches, everything], ids=["async", "sync"])
def test_a_replay_from_any_call_gives_the_same_and_executes_what_came_after(
    execution: TestExecution, replay: Replay, body: Callable[[], Any]
) -> None:
    execution.attempt(body)
    outcomes = execution.outcomes
    for at, row in enumerate(execution.rows):
        again = replay(execution, row.key)
        ran.clear()
        again.attempt(body)

        assert again.result == execution.result
        assert again.outcomes == outcomes
        before = {other.key for other in execution.rows[:at]} - {row.key}
        assert {it.key for it in again.rows[: len(before)]} == before
        assert sum(ran.values()) <= sum(1 for other in execution.rows[at:] if other.kind == "c") + 2  # flaky's tries


def test_a_replay_of_a_replay_of_a_retried_execution_gives_the_same(execution: TestExecution, replay: Replay) -> None:
    @checkpoint
    def weak() -> int:
        ran["weak"] += 1
        if ran["weak"] == 1:
            raise ConnectionError("once")
        return 1

    def body() -> list[int]:
        futures = double.map([1, 2, 3])
        values = [weak(), *[future.result() for future in futures]]
        return [*values, double(sum(values))]

    execution.attempt(body)
    ending.retry(execution.database, execution.exec_id, actor="me@laptop")
    execution.attempt(body)
    one = replay(execution, "double")
    one.attempt(body)
    two = replay(one, "weak")
    two.attempt(body)

    assert execution.result == one.result == two.result == [1, 2, 4, 6, 26]


def test_an_answer_of_several_that_were_asked_can_be_given(execution: TestExecution, replay: Replay) -> None:
    def body() -> tuple[str, Any]:
        first = wait_any({"name": "lead", "schema": bool}, {"name": "manager", "schema": int})
        return first.name, first.value

    execution.attempt(body)
    execution.answer("wait_any/lead", True)
    execution.attempt(body)
    again = replay(execution, wait_manager=7)
    again.attempt(body)

    assert (execution.result, again.result) == (("lead", True), ("manager", 7))


def test_a_checkpoint_called_as_the_engine_s_own_rows_are_is_one_of_its_own(execution: TestExecution) -> None:
    @checkpoint
    def retry() -> str:
        ran["retry"] += 1
        return "mine"

    @checkpoint
    def weak() -> str:
        ran["weak"] += 1
        if ran["weak"] == 1:
            raise ConnectionError
        return "strong"

    execution.attempt(lambda: [weak(), retry()])
    ending.retry(execution.database, execution.exec_id, actor="me@laptop")
    execution.attempt(lambda: [weak(), retry()])

    assert execution.result == ["strong", "mine"]
