"""`submit`, `map` and `product`: what is passed, in which order, and how much executes at once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from attempts import PATIENCE_SECONDS, Executions, TestExecution
from clocks import OwnClock

from kitaru import Backoff, KitaruUsageError, checkpoint, wait

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


def test_maps_of_unequal_lengths_are_refused_before_anything_begins(execution: TestExecution) -> None:
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
    execution: TestExecution, moving: OwnClock, asynchronous: bool
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

    moving.pass_for(execution, 3600)
    execution.attempt(chosen)
    assert execution.result == [2, 1, 0]
    assert (ran["1"], ran["2"]) == (1, 1)


# Order


def test_asyncio_wait_says_that_it_takes_tasks(execution: TestExecution) -> None:
    async def body() -> str:
        futures = [add.submit(1), add_async.submit(2)]
        with pytest.raises(KitaruUsageError, match=r"asyncio\.wait takes tasks") as caught:
            await asyncio.wait(futures)  # type: ignore[type-var]
        done, _ = await asyncio.wait([asyncio.ensure_future(future) for future in futures])
        return f"{sum(task.result() for task in done)} {caught.value.hint}"

    execution.attempt(body)

    assert execution.result.startswith("3 write: asyncio.wait([asyncio.ensure_future(future)")


Results = list[Any]


def first_completed() -> Results:
    pending = set(delayed_sync.map([3, 1, 2, 0]))
    order: Results = []
    while pending:
        done, pending = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
        order.append(sorted(future.result() for future in done))
        if len(order) == 2:
            order.append(add(len(order)))
    return order


def as_they_come() -> Results:
    return [add(future.result()) for future in concurrent.futures.as_completed(delayed_sync.map([2, 0, 1]))]


async def first_completed_on_a_loop() -> Results:
    pending = {asyncio.ensure_future(delayed(number)) for number in (3, 1, 2, 0)}
    order: Results = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        order.append(sorted(task.result() for task in done))
        order.append(await add_async(len(order)))
    return order


async def as_they_come_on_a_loop() -> Results:
    return [await add_async(await coming) for coming in asyncio.as_completed(delayed.map([2, 0, 1]))]


async def as_they_come_from_threads() -> Results:
    return [await add_async(await coming) for coming in asyncio.as_completed(delayed_sync.map([2, 0, 1]))]


async def with_retries_in_a_gather() -> Results:
    return list(await asyncio.gather(*(flaky(number) for number in range(4)), delayed(1)))


async def with_retries_in_a_group() -> Results:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(twice(number)) for number in range(3)]
    return [task.result() for task in tasks]


async def twice(number: int) -> int:
    return await flaky(number) + await delayed(number)


async def with_timeouts_in_wait_for() -> Results:
    found: Results = []
    for number in (0, 30):
        try:
            found.append(await asyncio.wait_for(timed(number), 10))
        except TimeoutError as error:
            found.append(type(error).__name__)
    found.append(await add_async(1))
    return found


async def in_lanes_and_groups() -> Results:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(laned(number)) for number in range(4)]
    return [task.result() for task in tasks]


async def laned(number: int) -> int:
    return await narrow(await narrow(number))


@checkpoint
def delayed_sync(number: int) -> int:
    threading.Event().wait(number / 200)
    return number


@checkpoint
async def delayed(number: int) -> int:
    await asyncio.sleep(number / 200)
    return number


tries: Counter[int] = Counter()


@checkpoint(retries=2, backoff=Backoff(first=0.002, jitter=0.5))
async def flaky(number: int) -> int:
    await asyncio.sleep(0)
    tries[number] += 1
    if tries[number] % 3:
        raise ConnectionError(str(number))
    return number


@checkpoint(timeout=0.05, retries=1)
async def timed(number: int) -> int:
    await asyncio.sleep(number)
    return number


@checkpoint(max_concurrency=2, retries=1)
async def narrow(number: int) -> int:
    await asyncio.sleep(0.002)
    return number + 1


ORDERED = [
    first_completed, as_they_come, first_completed_on_a_loop, as_they_come_on_a_loop, as_they_come_from_threads,
    with_retries_in_a_gather, with_retries_in_a_group, with_timeouts_in_wait_for, in_lanes_and_groups,
]  # fmt: skip


@pytest.mark.parametrize("body", ORDERED)
def test_cut_short_at_any_write_the_flow_sees_what_it_saw(executions: Executions, body: Callable[[], Any]) -> None:
    """The last attempt executes nothing that an earlier one recorded, and comes to its end without divergence."""
    seen: list[Any] = []

    def noting() -> Any:
        seen.append(body())
        return seen[-1]

    async def noting_async() -> Any:
        seen.append(await body())
        return seen[-1]

    chosen = noting_async if asyncio.iscoroutinefunction(body) else noting
    whole = executions.new()
    tries.clear()
    whole.attempt(chosen)
    assert whole.status == "completed", whole.record.error
    compared = 0
    for writes in range(len(whole.rows) + 1):
        tries.clear()
        seen.clear()
        execution = executions.new()
        execution.attempt(chosen, writes=writes)
        if execution.status == "completed":
            continue
        recorded = execution.rows
        tries.clear()
        tries.update({number: failed_before(execution, number) for number in range(4)})
        execution.attempt(chosen)

        assert execution.status == "completed", (writes, execution.record.error)
        assert execution.rows[: len(recorded)] == recorded
        assert all(one == seen[0] for one in seen)
        compared += len(seen) > 1
    assert compared, "no attempt was cut short at its very end, so nothing was compared"


def failed_before(execution: TestExecution, number: int) -> int:
    """Tries of `flaky(number)` that a process before had recorded."""
    return sum(row.kind == "t" and (row.error or "").find(f'"message":"{number}"') > 0 for row in execution.rows)


def test_a_submit_that_is_cancelled_before_it_begins_is_cancelled(execution: TestExecution) -> None:
    async def body() -> str:
        future = delayed.submit(1)
        assert future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        return f"{future.cancelled()} {await delayed(0)}"

    execution.attempt(body)

    assert execution.result == "True 0"
    assert execution.keys == ["delayed"]


def test_branches_that_wait_and_a_lane_park_together(execution: TestExecution) -> None:
    async def branch(number: int) -> int:
        answer: int = await wait(name=f"n{number}", schema=int)
        return await narrow(answer)

    async def body() -> list[int]:
        return list(await asyncio.gather(*(branch(number) for number in range(3))))

    execution.attempt(body)
    for number in range(3):
        assert execution.status == "waiting"
        execution.answer(f"task[{number}]/n{number}", number)
        execution.attempt(body)

    assert execution.result == [1, 2, 3]
