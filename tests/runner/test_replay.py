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
from typing import Any

import pytest
from attempts import Executions, TestExecution

from kitaru import (
    KitaruContextError,
    KitaruError,
    KitaruUserCodeError,
    checkpoint,
    current_execution_id,
    load,
    log,
    save,
    wait,
)
from kitaru_registry.errors import KitaruFencedError
from kitaru_runner.body import run_body

ran: Counter[str] = Counter()
"""How often each checkpoint's function was executed, by name and argument."""


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@checkpoint
def double(number: int) -> int:
    ran[f"double {number}"] += 1
    return 2 * number


@checkpoint
def slow_double(number: int) -> int:
    time.sleep(random.random() / 100)
    ran[f"slow_double {number}"] += 1
    return 2 * number


@checkpoint
async def add(one: int, other: int) -> int:
    await asyncio.sleep(random.random() / 200)
    ran[f"add {one} {other}"] += 1
    return one + other


@checkpoint(retries=2)
def flaky(number: int) -> int:
    ran[f"flaky {number}"] += 1
    if ran[f"flaky {number}"] <= number:
        raise ConnectionError(f"attempt {ran[f'flaky {number}']} for {number}")
    return number


@checkpoint
def refuse(word: str) -> str:
    ran[f"refuse {word}"] += 1
    raise ValueError(f"not {word}")


def everything() -> dict[str, Any]:
    """A body that uses most of what there is."""
    log(stage="begun")
    total = sum(double(number) for number in range(3))
    mapped = [future.result() for future in slow_double.map(range(4))]
    try:
        refuse("that")
    except ValueError as error:
        refused = str(error)
    save("mapped", mapped)
    return {"total": total, "mapped": mapped, "refused": refused, "flaky": flaky(2), "last": double(total)}


RESULT = {"total": 6, "mapped": [0, 2, 4, 6], "refused": "not that", "flaky": 2, "last": 12}


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
    assert error.file == __file__
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

    execution.attempt(body, writes=1)
    execution.attempt(body)

    assert execution.result == "timed out"
    assert ran["endless"] == 1
    assert [(row.kind, row.key) for row in execution.rows] == [("c", "endless"), ("c", "add")]


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
    assert "kitaru_runner/engine.py" not in (record.error.traceback or "")


def test_sys_exit_in_a_flow_is_its_failure(execution: TestExecution) -> None:
    def body() -> None:
        raise SystemExit(3)

    assert execution.attempt(body).status == "failed"


# Where calls have no place


def test_a_checkpoint_in_a_thread_of_the_flow_s_own_names_submit(execution: TestExecution) -> None:
    def body() -> str:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            try:
                return str(pool.submit(double, 1).result())
            except KitaruContextError as error:
                return f"{error.message}: {error.hint}"

    execution.attempt(body)

    assert "double was called in a thread without the flow's context" in execution.result
    assert "double.submit(...)" in execution.result
    assert not ran


def test_a_checkpoint_within_asyncio_to_thread_keeps_its_place(execution: TestExecution) -> None:
    async def body() -> int:
        return await asyncio.to_thread(double, 4)

    execution.attempt(body)

    assert execution.result == 8


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_wait_inside_a_checkpoint_is_an_error(execution: TestExecution, asynchronous: bool) -> None:
    @checkpoint
    def ask() -> Any:
        return wait(name="approve", schema=bool)

    @checkpoint
    async def ask_later() -> Any:
        return await wait(name="approve", schema=bool)

    async def body() -> Any:
        return await ask_later()

    execution.attempt(body if asynchronous else ask)

    record = execution.record
    assert record.error is not None
    assert (record.status, record.error.type) == ("failed", "KitaruContextError")
    assert "wait() was called inside checkpoint ask" in record.error.message
    assert record.pending_waits == ()


def test_outside_of_a_flow_a_checkpoint_is_the_plain_function() -> None:
    assert double(2) == 4
    assert double.submit(3).result() == 6
    assert [future.result() for future in double.map([1, 2])] == [2, 4]
    assert asyncio.run(add(1, 2)) == 3
    with pytest.raises(ConnectionError):
        flaky(9)
    assert ran["flaky 9"] == 1


def test_wait_save_and_log_outside_of_a_flow_say_so() -> None:
    for name, call in (("wait", wait), ("save", lambda: save("a", 1)), ("log", lambda: log(a=1))):
        with pytest.raises(KitaruContextError, match=rf"{name}\(\) was called outside of a flow"):
            call()
    assert current_execution_id() is None


# Fences


def test_an_attempt_that_was_taken_over_writes_nothing_more(execution: TestExecution) -> None:
    engine, _, _ = execution.begin()
    taken = []

    def body() -> int:
        first = double(1)
        taken.append(execution.begin())
        return first + double(2)

    with pytest.raises(KitaruFencedError):
        run_body(engine, body, {})

    assert execution.keys == ["double"]
    assert (execution.status, execution.record.attempt) == ("running", 2)
    run_body(taken[0][0], lambda: double(1) + double(2), {})
    assert execution.result == 6
    assert ran == {"double 1": 1, "double 2": 2}


def test_a_flow_cannot_swallow_its_being_fenced_out(execution: TestExecution) -> None:
    engine, _, _ = execution.begin()

    def body() -> str:
        execution.begin()
        for number in range(3):
            try:
                double(number)
            except Exception:
                continue
        return "all is well"

    run_body(engine, body, {})

    assert execution.rows == []
    assert execution.status == "running"
    assert sum(ran.values()) == 1


# Values, artifacts, metadata


def test_large_values_survive(execution: TestExecution) -> None:
    large = "x" * 200_000

    @checkpoint
    def draft() -> str:
        ran["draft"] += 1
        return large

    def body() -> str:
        text = draft() + draft()
        save("text", text)
        double(1)
        return text

    execution.attempt(body, writes=3)
    execution.attempt(body)

    assert execution.result == large * 2
    assert ran["draft"] == 2
    stored = [path for path in execution.database.home.values.rglob("*") if path.is_file()]
    assert sorted(path.stat().st_size for path in stored) == [200_000, 400_000]


def test_a_large_value_that_was_changed_on_disk_is_refused(execution: TestExecution) -> None:
    @checkpoint
    def draft() -> str:
        return "x" * 200_000

    def body() -> str:
        text = draft()
        double(1)
        return text

    execution.attempt(body, writes=1)
    stored = next(path for path in execution.database.home.values.rglob("*") if path.is_file())
    stored.chmod(0o644)
    stored.write_bytes(b"y" + stored.read_bytes()[1:])
    execution.attempt(body)

    error = execution.record.error
    assert error is not None
    assert error.type == "KitaruDigestMismatchError"
    assert stored.name in error.message


def test_what_is_saved_can_be_loaded_by_another_execution(executions: Executions) -> None:
    first = executions.new()

    def write() -> None:
        save("report", {"pages": 3})
        double(21)

    first.attempt(write)
    second = executions.new()
    second.attempt(lambda: [load(first.exec_id, "report"), load(first.exec_id, "double"), current_execution_id()])

    assert second.result == [{"pages": 3}, 42, second.exec_id]


def test_a_save_in_the_body_happens_once(execution: TestExecution) -> None:
    def body() -> Any:
        save("report", double(1))
        double(2)
        return load(str(current_execution_id()), "report")

    execution.attempt(body, writes=2)
    execution.attempt(body)

    assert execution.result == 2
    assert execution.keys == ["double", "save:report", "double#2"]


def test_a_save_in_a_try_that_failed_leaves_nothing(execution: TestExecution) -> None:
    @checkpoint(retries=1)
    def report() -> str:
        ran["report"] += 1
        save("report", ran["report"])
        if ran["report"] == 1:
            raise OSError("again")
        return "saved"

    def body() -> Any:
        report()
        return load(str(current_execution_id()), "report")

    execution.attempt(body)

    assert execution.result == 2


def test_loading_what_is_not_there_names_what_is(execution: TestExecution) -> None:
    def body() -> str:
        double(1)
        try:
            load(str(current_execution_id()), "notes")
        except KitaruError as error:
            return error.message
        return ""

    execution.attempt(body)

    assert execution.result == f"execution {execution.exec_id} has no artifact notes; it has: double"


def test_logged_metadata_merges_in_the_body_and_stays_with_its_checkpoint(execution: TestExecution) -> None:
    @checkpoint
    def call_model() -> None:
        log(tokens=12)

    def body() -> None:
        log(cost={"usd": 1}, stage="first")
        call_model()
        log(cost={"eur": 2}, stage="second")

    execution.attempt(body, writes=2)
    execution.attempt(body)

    record = execution.record
    assert record.metadata == {"cost": {"usd": 1, "eur": 2}, "stage": "second"}
    assert record.checkpoints[0].metadata == {"tokens": 12}


def test_log_takes_json_alone(execution: TestExecution) -> None:
    execution.attempt(lambda: log(when={1, 2}))

    error = execution.record.error
    assert error is not None
    assert (error.type, error.message) == ("KitaruUsageError", "log(when=...) got a builtins:set")


def test_a_failure_in_a_future_is_raised_by_its_result(execution: TestExecution) -> None:
    def body() -> list[str]:
        futures = [refuse.submit("a"), refuse.submit("b")]
        double(1)
        return [str(future.exception()) for future in futures]

    execution.attempt(body, writes=3)
    execution.attempt(body)

    assert execution.result == ["not a", "not b"]


def test_a_failure_whose_class_cannot_be_had_is_a_user_code_error(execution: TestExecution) -> None:
    class Local(Exception):
        pass

    @checkpoint
    def fail() -> None:
        raise Local("of here")

    def body() -> str:
        try:
            fail()
        except KitaruUserCodeError as error:
            return error.message
        return ""

    execution.attempt(body)

    assert execution.result == "Local: of here"
