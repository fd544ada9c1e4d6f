"""Retries: which failures are tried again, how soon, and what a crash between two tries leaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from attempts import TestExecution

from kitaru import Backoff, checkpoint, flow, testing, wait
from kitaru_registry.journal.keys import Call
from kitaru_runner.engine.core.specs import CheckpointSpec

ran: Counter[str] = Counter()
HOUR = 3600.0


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


def failing(name: str, times: int, error: Exception | None = None) -> str:
    """Fails so many times, then gives its name."""
    ran[name] += 1
    if ran[name] <= times:
        raise error or ConnectionError(f"{name} {ran[name]}")
    return name


def kinds(execution: TestExecution) -> list[tuple[str, int | None]]:
    return [(row.kind, row.tries) for row in execution.rows]


def pauses(execution: TestExecution) -> list[float]:
    """The pauses that are open now, as they were asked for: seconds from the failure to the next try."""
    with execution.database.read() as connection:
        found = connection.exec_driver_sql(
            "SELECT deadline_us, key FROM waits WHERE status = 'pending' AND kind = 'sleep' ORDER BY key"
        ).all()
    return [(deadline_us - int(key.rpartition("@")[2])) / 1_000_000 for deadline_us, key in found]


# Backoff


def test_a_backoff_doubles_up_to_its_longest() -> None:
    backoff = Backoff(first=1, factor=2, longest=5, jitter=0)

    assert [backoff.pause_us(failed, salt="fetch") / 1_000_000 for failed in range(1, 6)] == [1, 2, 4, 5, 5]


def test_jitter_stays_within_its_share_and_differs_from_call_to_call() -> None:
    backoff = Backoff(first=100, factor=1, jitter=0.25)

    found = [backoff.pause_us(1, salt=f"map[{number}]/fetch") / 1_000_000 for number in range(200)]

    assert all(75 <= pause <= 125 for pause in found)
    assert min(found) < 80
    assert max(found) > 120
    assert found == [backoff.pause_us(1, salt=f"map[{number}]/fetch") / 1_000_000 for number in range(200)]


def test_a_backoff_of_a_thousand_tries_does_not_overflow() -> None:
    assert Backoff(first=1, factor=10, longest=60, jitter=0).pause_us(1000, salt="") == 60_000_000


def test_a_number_is_the_first_of_doubling_pauses() -> None:
    spec = spec_of(checkpoint(retries=5, backoff=3)(lambda: None))

    found = [spec.backoff.pause_us(failed, salt="a") / 1_000_000 for failed in (1, 2, 3)]

    assert [2.7 <= found[0] <= 3.3, 5.4 <= found[1] <= 6.6, 10.8 <= found[2] <= 13.2] == [True] * 3


def spec_of(made: Any) -> CheckpointSpec:
    spec: CheckpointSpec = made.spec
    return spec


# Long pauses


def hourly(name: str, times: int, *, jitter: float = 0.0) -> Any:
    """A checkpoint with pauses of an hour and more."""
    return checkpoint(retries=5, backoff=Backoff(first=HOUR, factor=2, longest=10 * HOUR, jitter=jitter))(
        named(name, lambda: failing(name, times))
    )


def named(name: str, function: Callable[[], Any]) -> Callable[[], Any]:
    function.__name__ = name
    return function


def on_a_loop(name: str, times: int) -> Any:
    async def call() -> str:
        return failing(name, times)

    call.__name__ = name
    return checkpoint(retries=5, backoff=Backoff(first=HOUR, longest=9 * HOUR, jitter=0))(call)


def bodies(times: int) -> dict[str, Callable[[], Any]]:
    """The same call in every way that there is."""
    sync, asynchronous = hourly("sync", times), on_a_loop("asynchronous", times)

    async def awaited() -> Any:
        return await asynchronous()

    async def gathered() -> Any:
        return (await asyncio.gather(asynchronous()))[0]

    async def submitted_on_a_loop() -> Any:
        return await asynchronous.submit()

    async def thread_beside_a_loop() -> Any:
        return await sync.submit()

    return {
        "called": lambda: sync(),
        "submitted": lambda: sync.submit().result(),
        "mapped": lambda: hourly_of_one(times).map([0])[0].result(),
        "awaited": awaited,
        "gathered": gathered,
        "submitted on a loop": submitted_on_a_loop,
        "a thread beside a loop": thread_beside_a_loop,
    }


def hourly_of_one(times: int) -> Any:
    def of_one(_: int) -> str:
        return failing("sync", times)

    return checkpoint(retries=5, backoff=Backoff(first=HOUR, longest=9 * HOUR, jitter=0))(of_one)


@pytest.mark.parametrize("how", bodies(0))
def test_a_long_pause_parks_and_is_as_long_as_it_was(execution: TestExecution, clock: testing.Clock, how: str) -> None:
    body = bodies(2)[how]

    execution.attempt(body)
    assert (execution.status, kinds(execution)) == ("waiting", [("t", 1)])
    execution.let_pass(clock, HOUR - 1)
    assert execution.status == "waiting"

    execution.let_pass(clock, 1)
    execution.attempt(body)
    assert (execution.status, kinds(execution)) == ("waiting", [("t", 1), ("t", 2)])
    execution.let_pass(clock, 2 * HOUR - 1)
    assert execution.status == "waiting"

    execution.let_pass(clock, 1)
    execution.attempt(body)
    assert execution.result in ("sync", "asynchronous")
    assert kinds(execution) == [("t", 1), ("t", 2), ("c", 3)]


@pytest.mark.parametrize("how", bodies(0))
def test_a_resume_in_a_pause_keeps_what_is_left_of_it(execution: TestExecution, clock: testing.Clock, how: str) -> None:
    body = bodies(1)[how]
    execution.attempt(body, writes=1)  # cut short when it asks for its pause, or right after
    if execution.status == "waiting":
        before = pauses(execution)
        clock.advance(seconds=HOUR / 2)
    else:
        before = [HOUR]
        clock.advance(seconds=HOUR / 2)
        execution.attempt(body)

    assert pauses(execution) == before == [HOUR]
    assert kinds(execution) == [("t", 1)]
    execution.let_pass(clock, HOUR / 2)
    execution.attempt(body)
    assert kinds(execution) == [("t", 1), ("c", 2)]


def test_another_s_answer_wakes_it_and_the_pause_goes_on_as_it_was(
    execution: TestExecution, clock: testing.Clock
) -> None:
    flaky = hourly("sync", 1, jitter=0.3)

    def body() -> list[Any]:
        future = flaky.submit()
        return [wait(name="approve", schema=bool), future.result()]

    execution.attempt(body)
    first = pauses(execution)
    clock.advance(seconds=HOUR / 2)
    execution.answer("approve", True)
    execution.attempt(body)

    assert execution.status == "waiting"
    assert pauses(execution) == first
    assert 0.7 * HOUR <= first[0] <= 1.3 * HOUR
    execution.let_pass(clock, HOUR)
    execution.attempt(body)
    assert execution.result == [True, "sync"]
    assert ran["sync"] == 2


def test_a_pause_that_passed_while_nobody_ran_it_is_over(execution: TestExecution, clock: testing.Clock) -> None:
    body = bodies(1)["called"]
    execution.attempt(body)
    execution.let_pass(clock, 10 * HOUR)

    execution.attempt(body)

    assert execution.result == "sync"


def test_a_process_that_stays_goes_on_after_the_pause(execution: TestExecution, clock: testing.Clock) -> None:
    attempt = execution.attempt_in_thread(bodies(1)["submitted"])
    attempt.wait_until_parked()
    assert execution.status == "waiting"

    execution.let_pass(clock, HOUR)
    attempt.hear()
    attempt.join()

    assert (execution.result, execution.record.attempt) == ("sync", 1)


def test_siblings_go_on_while_one_pauses(execution: TestExecution, clock: testing.Clock) -> None:
    flaky, plain = hourly("sync", 1), checkpoint(named("plain", lambda: failing("plain", 0)))

    def body() -> list[Any]:
        first = flaky.submit()
        return [plain(), plain.submit().result(), plain(), first.result()]

    execution.attempt(body)

    assert execution.status == "waiting"
    assert sorted(execution.outcomes) == ["plain", "plain#2", "submit[1]/plain"]
    execution.let_pass(clock, HOUR)
    execution.attempt(body)
    assert execution.result == ["plain", "plain", "plain", "sync"]
    assert ran["plain"] == 3


def test_a_flow_that_is_at_work_itself_does_not_park(execution: TestExecution, clock: testing.Clock) -> None:
    """Its own code between two calls counts, where another branch pauses."""
    flaky, plain = hourly("sync", 1), checkpoint(named("plain", lambda: failing("plain", 0)))
    seen = []

    def body() -> list[Any]:
        first = flaky.submit()
        while not kinds(execution):
            pass
        for _ in range(50):
            seen.append(execution.status)
        return [plain(), first.result()]

    execution.attempt(body)

    assert set(seen) == {"running"}
    assert (execution.status, sorted(execution.outcomes)) == ("waiting", ["plain"])


def test_a_wait_in_one_branch_and_pauses_in_others_park_together() -> None:
    """In any order of waking, and after any crash, the result is the same."""
    flaky = [hourly(f"flaky{number}", 1) for number in range(3)]

    @flow
    def together() -> list[Any]:
        futures = [one.submit() for one in flaky]
        answer = wait(name="approve", schema=int)
        return [answer, *[future.result() for future in futures]]

    assert testing.run(together, answers={"approve": 7}).result == [7, "flaky0", "flaky1", "flaky2"]
    assert set(ran.values()) == {2}
    testing.explore(together, answers={"approve": 7}, seeds=range(20), reset=ran.clear)


# Short pauses


def test_a_short_pause_holds_the_process_and_parks_nothing(execution: TestExecution) -> None:
    def body() -> list[Any]:
        flaky = checkpoint(retries=2, backoff=Backoff(first=0.01, jitter=0))(named("f", lambda: failing("f", 2)))
        return [flaky.submit().result(), flaky()]

    execution.attempt(body)

    assert execution.result == ["f", "f"]
    assert kinds(execution) == [("t", 1), ("t", 2), ("c", 3), ("c", None)]
    assert execution.record.attempt == 1


@pytest.mark.parametrize("writes", range(1, 7))
def test_cut_short_between_tries_no_try_is_lost_or_made_twice(execution: TestExecution, writes: int) -> None:
    def flaky(number: int) -> int:
        ran[str(number)] += 1
        tried = sum(row.key.endswith(f"[{number}]/flaky") for row in execution.rows)
        if tried < 2:
            raise ConnectionError(str(tried))
        return tried

    made = checkpoint(retries=3, backoff=Backoff(first=0.002))(flaky)

    def body() -> list[int]:
        return [future.result() for future in made.map([0, 1], max_concurrency=1)]

    execution.attempt(body, writes=writes)
    execution.attempt(body)

    assert execution.result == [2, 2]
    for number in range(2):
        own = [(row.kind, row.tries) for row in execution.rows if row.key == f"map[{number}]/flaky"]
        assert own == [("t", 1), ("t", 2), ("c", 3)]


# Which failures


@pytest.mark.parametrize(
    ("retry_on", "tries"),
    [
        (None, 3), (ConnectionError, 3), (OSError, 3), (ValueError, 1), ((ValueError, ConnectionError), 3),
        ([ValueError, KeyError], 1), (lambda error: "again" in str(error), 3), (lambda error: False, 1),
        (lambda error: [], 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("asynchronous", [False, True])
def test_retry_on_says_what_is_tried_again(
    execution: TestExecution, retry_on: Any, tries: int, asynchronous: bool
) -> None:
    def call() -> None:
        raise ConnectionResetError("again, please")

    async def call_async() -> None:
        call()

    async def body() -> Any:
        return await made()

    made: Any = checkpoint(retries=2, retry_on=retry_on)(call_async if asynchronous else call)
    execution.attempt(body if asynchronous else made)

    error = execution.record.error
    assert error is not None
    assert error.type == "ConnectionResetError"
    assert [kind for kind, _ in kinds(execution)] == ["t"] * (tries - 1) + ["c"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_retry_on_that_fails_itself_is_the_checkpoint_s_recorded_failure(
    execution: TestExecution, asynchronous: bool
) -> None:
    def again(error: BaseException) -> bool:
        raise LookupError("no such setting")

    def call() -> None:
        ran["call"] += 1
        raise ConnectionResetError("again, please")

    async def call_async() -> None:
        call()

    made: Any = checkpoint(retries=2, retry_on=again)(call_async if asynchronous else call)

    def body() -> str:
        try:
            made()
        except LookupError as error:
            return str(error)
        return ""

    async def body_async() -> str:
        try:
            await made()
        except LookupError as error:
            return str(error)
        return ""

    chosen = body_async if asynchronous else body
    execution.attempt(chosen, writes=1)
    execution.attempt(chosen)

    assert execution.result == "no such setting"
    assert (ran["call"], kinds(execution)) == (1, [("c", None)])
    (call,) = execution.record.checkpoints
    assert call.error is not None
    assert "ConnectionResetError: again, please" in (call.error.traceback or "")


def test_the_salt_of_a_pause_is_the_call_s_key() -> None:
    """So that the same call pauses alike in every attempt, and two calls do not come back at the same moment."""
    spec = spec_of(checkpoint(retries=1, backoff=60)(lambda: None))
    calls = [Call(f"map[{number}]/f", "f", f"map[{number}]/", 0) for number in range(2)]

    first, second = (spec.backoff.pause_us(1, salt=call.key) for call in calls)

    assert first != second
