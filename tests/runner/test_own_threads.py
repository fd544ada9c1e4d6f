"""Threads that a flow starts: what they call has its place by who started them, not by who was first."""

from __future__ import annotations

import _thread
import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from itertools import pairwise
from multiprocessing.pool import ThreadPool
from queue import Queue
from typing import Any

import pytest
from attempts import PATIENCE_SECONDS, Executions, TestExecution

from kitaru import KitaruContextError, KitaruUsageError, checkpoint, now
from kitaru import wait as ask_for
from kitaru.testing.crashes import ProcessEnded
from kitaru_registry.executions.waits import list_waits

WHO = ("ann", "bob", "cid")


@checkpoint
def fetch(who: str) -> str:
    return f"page of {who}"


@checkpoint
def rank(page: str) -> str:
    return f"rank of {page}"


@checkpoint
def ask(client: object) -> str:
    return "asked"


class Gates:
    """Lets threads go on one after another, in an order that the test says."""

    def __init__(self, order: list[str]) -> None:
        self._events = {who: threading.Event() for who in WHO}
        self._following = dict(pairwise(order))
        self._events[order[0]].set()

    def pass_through(self, who: str) -> None:
        assert self._events[who].wait(PATIENCE_SECONDS)

    def leave(self, who: str) -> None:
        if who in self._following:
            self._events[self._following[who]].set()


def in_pool(work: Callable[[str], str]) -> list[str]:
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(work, WHO))


def in_pool_with_contexts(work: Callable[[str], str]) -> list[str]:
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(partial(copy_context().run, work, who)) for who in WHO]
        return [future.result() for future in futures]


def in_threads(work: Callable[[str], str], *, copied: bool = False) -> list[str]:
    found: dict[str, str] = {}

    def keep(who: str) -> None:
        found[who] = work(who)

    threads = [
        threading.Thread(target=copy_context().run, args=(keep, who))
        if copied
        else threading.Thread(target=keep, args=(who,))
        for who in WHO
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[who] for who in WHO]


def in_threads_of_a_class(work: Callable[[str], str]) -> list[str]:
    class Fetching(threading.Thread):
        def __init__(self, who: str) -> None:
            super().__init__()
            self.who, self.found = who, ""

        def run(self) -> None:
            self.found = work(self.who)

    threads = [Fetching(who) for who in WHO]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [thread.found for thread in threads]


def in_nobodys_threads(work: Callable[[str], str]) -> list[str]:
    """Such as a library's that were there before."""
    futures: list[Future[str]] = []
    for who in WHO:
        future: Future[str] = Future()
        futures.append(future)

        def call(future: Future[str] = future, who: str = who) -> None:
            try:
                future.set_result(work(who))
            except BaseException as error:
                future.set_exception(error)

        _thread.start_new_thread(copy_context().run, (call,))
    return [future.result() for future in futures]


def by_turns(work: Callable[[str], str]) -> list[str]:
    queue: Queue[str | None] = Queue()
    found: dict[str, str] = {}
    for who in (*WHO, None, None, None):
        queue.put(who)

    def take(number: int) -> None:
        while (who := queue.get()) is not None:
            found[who] = work(who)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[who] for who in WHO]


def in_a_thread_pool_of_multiprocessing(work: Callable[[str], str]) -> list[str]:
    with ThreadPool(3) as pool:
        return pool.map(work, WHO, chunksize=1)


WAYS = [
    in_pool, in_pool_with_contexts, in_threads, partial(in_threads, copied=True), in_threads_of_a_class,
    in_nobodys_threads, by_turns, in_a_thread_pool_of_multiprocessing,
]  # fmt: skip


@pytest.mark.parametrize("run", WAYS, ids=lambda way: getattr(way, "__name__", "in_threads_with_contexts"))
def test_each_gets_its_own_outcome_whoever_is_first(executions: Executions, run: Callable[..., list[str]]) -> None:
    orders = [list(WHO), list(reversed(WHO))]
    gates: list[Gates] = []

    def body() -> list[str]:
        gate = gates[-1]

        def work(who: str) -> str:
            gate.pass_through(who)
            try:
                return rank(fetch(who))
            except ProcessEnded:  # which a process's own threads do not hear
                return ""
            finally:
                gate.leave(who)

        return run(work)

    for writes in range(6):
        execution = executions.new()
        gates.append(Gates(orders[writes % 2]))
        execution.attempt(body, writes=writes)
        gates.append(Gates(orders[1 - writes % 2]))
        execution.attempt(body)

        assert execution.result == [f"rank of page of {who}" for who in WHO]
        assert len(execution.outcomes) == 6


def test_calls_of_a_pool_have_scopes_in_the_order_in_which_it_was_given_them(execution: TestExecution) -> None:
    def body() -> list[str]:
        with ThreadPoolExecutor(1) as pool:
            futures = [pool.submit(fetch, who) for who in WHO]
        return [*(future.result() for future in futures), fetch("dan")]

    execution.attempt(body)

    assert execution.keys == [*(f"thread:fetch[{number}]/fetch" for number in range(3)), "fetch"]


def test_calls_that_a_loop_gives_a_pool_have_scopes_too(executions: Executions) -> None:
    async def body() -> list[str]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(3) as pool:
            return await asyncio.gather(*(loop.run_in_executor(pool, copy_context().run, fetch, who) for who in WHO))

    for _ in range(3):
        execution = executions.new()
        execution.attempt(body)
        assert execution.outcomes == {f"thread:fetch[{n}]/fetch": f"page of {who}" for n, who in enumerate(WHO)}


def test_what_nothing_can_tell_from_another_s_is_refused_where_there_is_no_order(execution: TestExecution) -> None:
    def body() -> str:
        with pytest.raises(KitaruUsageError) as caught:
            in_nobodys_threads(lambda who: ask(object()))
        return f"{caught.value.message}; {caught.value.hint}"

    execution.attempt(body)

    assert "ask(..., id=...)" in execution.result
    assert "ask.submit(...)" in execution.result


def test_what_nothing_can_tell_from_another_s_is_called_by_its_id(execution: TestExecution) -> None:
    def body() -> list[str]:
        return in_nobodys_threads(lambda who: ask(object(), id=f"ask-{who}"))  # type: ignore[call-arg]

    execution.attempt(body)

    assert sorted(execution.keys) == [f"threads/ask-{who}" for who in WHO]


def test_in_a_scope_of_its_own_a_thread_may_call_with_anything(execution: TestExecution) -> None:
    def body() -> list[str]:
        return in_pool(lambda who: ask(object()))

    execution.attempt(body)

    assert execution.result == ["asked"] * 3


def test_a_recorded_outcome_that_no_thread_takes_is_a_divergence(execution: TestExecution) -> None:
    at = iter(["before", "after"])

    def body() -> list[str]:
        said = next(at)
        pages = in_nobodys_threads(lambda who: fetch(f"{who} {said}"))
        return [*pages, fetch("dan")]

    execution.attempt(body, writes=3)
    execution.attempt(body)

    record = execution.record
    assert (record.status, record.error.type) == ("failed", "KitaruDivergenceError")
    assert "threads/fetch, which no thread has called" in record.error.message


def test_equal_calls_without_an_order_that_came_to_different_outcomes_need_an_id(execution: TestExecution) -> None:
    numbers = iter(range(10))

    @checkpoint
    def draw() -> int:
        return next(numbers)

    def body() -> list[Any]:
        return [*in_nobodys_threads(lambda who: str(draw())), fetch("dan")]

    execution.attempt(body, writes=3)
    execution.attempt(body)

    assert execution.record.error.type == "KitaruDivergenceError"
    assert "draw(..., id=...)" in execution.record.error.message


def test_a_noted_value_has_a_place_or_is_refused(execution: TestExecution) -> None:
    def body() -> int:
        in_threads(lambda who: str(now()))
        with pytest.raises(KitaruContextError, match=r"now\(\) cannot be noted"):
            in_nobodys_threads(lambda who: str(now()))
        return 1

    execution.attempt(body)

    assert sorted(execution.keys) == [f"thread:keep[{number}]/now" for number in range(3)]


# Waits


@pytest.mark.parametrize("run", [in_pool, in_pool_with_contexts, in_threads, in_nobodys_threads, by_turns])
def test_it_parks_when_every_thread_that_has_called_stands_at_a_wait(
    executions: Executions, run: Callable[..., list[str]]
) -> None:
    execution = executions.new()

    def body() -> list[str]:
        fetch("eve")
        return run(lambda who: str(fetch(who) and ask_for(name=f"approve-{who}", schema=str)))

    attempt = execution.attempt_in_thread(body)
    attempt.wait_until_parked()
    assert execution.status == "waiting"
    for who in WHO:
        [wait] = [one for one in list_waits(execution.database) if one.name == f"approve-{who}"]
        execution.answer(wait.key, f"yes, {who}")
    attempt.hear()
    attempt.join()

    assert execution.result == [f"yes, {who}" for who in WHO]


def test_a_thread_that_has_not_called_keeps_nothing_from_parking(execution: TestExecution) -> None:
    go_on = threading.Event()

    def body() -> str:
        busy = threading.Thread(target=lambda: go_on.wait(1))
        busy.start()
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(ask_for, name="approve", schema=str).result()

    attempt = execution.attempt_in_thread(body)
    attempt.wait_until_parked()
    execution.answer("thread:wait[0]/approve", "yes")
    attempt.hear()
    attempt.join()
    go_on.set()

    assert execution.result == "yes"
