"""Event loops that a plain flow runs by itself: their tasks have scopes, and their waits park."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
from attempts import Executions, TestExecution

from kitaru import KitaruContextError, checkpoint, wait
from kitaru_registry.executions.waits import list_waits

WHO = ("ann", "bob", "cid")

Run = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]


@checkpoint
async def fetch(who: str) -> str:
    return f"page of {who}"


@checkpoint
def rank(page: str) -> str:
    return f"rank of {page}"


def by_run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(main())


def by_runner(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    with asyncio.Runner() as runner:
        return runner.run(main())


def by_loop(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


def by_anyio(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return anyio.run(main)


def by_loop_in_pool(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """As many a library does that is called where a loop may run already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, main()).result()


RUNS = [by_run, by_runner, by_loop, by_anyio, by_loop_in_pool]


def after_turns(turns: dict[str, int]) -> Callable[[], Coroutine[Any, Any, Any]]:
    """Branches that come to their calls after so many turns of the loop."""

    async def one(who: str) -> str:
        for _ in range(turns[who]):
            await asyncio.sleep(0)
        return rank(await fetch(who))

    async def main() -> list[str]:
        return await asyncio.gather(*(one(who) for who in WHO))

    return main


@pytest.mark.parametrize("run", RUNS)
def test_a_branch_gets_its_own_outcomes_whichever_is_first(execution: TestExecution, run: Run) -> None:
    turns = [dict(zip(WHO, order, strict=True)) for order in ((9, 5, 1), (1, 5, 9))]

    def body() -> list[str]:
        pages = run(after_turns(turns.pop(0)))
        rank("the end")
        return list(pages)

    execution.attempt(body, writes=6)
    assert len(execution.keys) == 6
    execution.attempt(body)

    assert execution.result == [f"rank of page of {who}" for who in WHO]


def test_what_a_loop_is_run_for_goes_on_in_the_flow_s_own_order(execution: TestExecution) -> None:
    async def main() -> str:
        page = await fetch("ann")
        [other] = await asyncio.gather(fetch("bob"))
        return page + other

    def body() -> list[str]:
        return [asyncio.run(main()), asyncio.run(main())]

    execution.attempt(body)

    assert execution.keys == ["fetch", "task[0]/fetch", "fetch#2", "task[1]/fetch"]


@pytest.mark.parametrize("run", RUNS[:-1])
def test_threads_of_a_loop_go_on_where_it_runs_in_a_copy_of_the_flow_s_context(
    execution: TestExecution, run: Run
) -> None:
    async def main() -> str:
        return await asyncio.to_thread(rank, "page")

    def line(_: int) -> Any:
        return run(main)

    def body() -> list[str]:
        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(contextvars.copy_context().run, line, number) for number in range(2)]
            return [future.result() for future in futures]

    execution.attempt(body)

    assert sorted(key for key in execution.keys if "asyncio" not in key) == [
        "thread:line[0]/rank",
        "thread:line[1]/rank",
    ]


def test_tasks_that_are_made_before_the_loop_runs_have_scopes(execution: TestExecution) -> None:
    def body() -> list[str]:
        loop = asyncio.new_event_loop()
        tasks = [loop.create_task(fetch(who)) for who in WHO]  # type: ignore[arg-type]  # a checkpoint's coroutine
        try:
            return loop.run_until_complete(asyncio.gather(*tasks))
        finally:
            loop.close()

    execution.attempt(body)

    assert sorted(execution.keys) == [f"task[{number}]/fetch" for number in range(3)]


def test_tasks_that_share_a_context_have_scopes_of_their_own(execution: TestExecution) -> None:
    seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="")

    async def one(who: str) -> str:
        await asyncio.sleep(0)
        seen.set(seen.get() + who[0])
        return rank(await fetch(who))

    async def body() -> list[str]:
        context = contextvars.copy_context()
        tasks = [asyncio.create_task(one(who), context=context) for who in WHO]
        return [*await asyncio.gather(*tasks), context[seen]]

    execution.attempt(body)

    assert execution.result == [*(f"rank of page of {who}" for who in WHO), "abc"]
    assert sorted(execution.outcomes) == sorted(
        f"task[{number}]/{name}" for number in range(3) for name in ("fetch", "rank")
    )


def plain_factory(loop: Any, coroutine: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coroutine, loop=loop)


def full_factory(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coroutine, loop=loop, **options)


FACTORIES: list[Any] = [plain_factory, full_factory]
if sys.version_info >= (3, 12):
    FACTORIES.append(asyncio.eager_task_factory)


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("own_loop", [False, True])
def test_tasks_of_a_factory_of_the_flow_s_own_have_scopes(
    execution: TestExecution, factory: Any, own_loop: bool
) -> None:
    async def main() -> list[str]:
        asyncio.get_running_loop().set_task_factory(factory)
        return await asyncio.gather(*(fetch(who) for who in WHO))

    def plain() -> list[str]:
        return asyncio.run(main())

    execution.attempt(plain if own_loop else main)

    assert execution.outcomes == {f"task[{number}]/fetch": f"page of {who}" for number, who in enumerate(WHO)}


def test_a_task_that_the_flow_did_not_see_begin_is_refused(execution: TestExecution) -> None:
    async def body() -> str:
        with pytest.raises(KitaruContextError, match="did not see begin"):
            await asyncio.Task(fetch("ann"))  # type: ignore[arg-type]  # a checkpoint's coroutine
        return await fetch("bob")

    execution.attempt(body)

    assert execution.keys == ["fetch"]


def test_afterwards_threads_and_loops_are_as_before(execution: TestExecution) -> None:

    before = (
        threading.Thread.start,
        ThreadPoolExecutor.submit,
        asyncio.BaseEventLoop.create_task,
        asyncio.as_completed,
    )

    execution.attempt(lambda: by_run(after_turns(dict.fromkeys(WHO, 1))))

    after = (threading.Thread.start, ThreadPoolExecutor.submit, asyncio.BaseEventLoop.create_task, asyncio.as_completed)
    assert before == after


@pytest.mark.parametrize("run", RUNS)
def test_a_wait_on_it_parks(executions: Executions, run: Run) -> None:
    execution = executions.new()

    async def one(who: str) -> str:
        return str(await wait(name=f"approve-{who}", schema=str))

    async def main() -> list[str]:
        return await asyncio.gather(*(one(who) for who in WHO))

    def body() -> list[str]:
        rank("the beginning")
        return list(run(main))

    attempt = execution.attempt_in_thread(body)
    attempt.wait_until_parked()
    assert execution.status == "waiting"
    for asked in list_waits(execution.database):
        execution.answer(asked.key, f"yes, {asked.name}")
    attempt.hear()
    attempt.join()

    assert execution.result == [f"yes, approve-{who}" for who in WHO]


def test_loops_side_by_side_park_together(execution: TestExecution) -> None:
    async def main(who: str) -> str:
        page = await fetch(who)
        return f"{await wait(name=f'approve-{who}', schema=str)}: {page}"

    def body() -> list[str]:
        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(lambda who: asyncio.run(main(who)), WHO))

    attempt = execution.attempt_in_thread(body)
    attempt.wait_until_parked()
    for asked in list_waits(execution.database):
        execution.answer(asked.key, f"yes, {asked.name}")
    attempt.hear()
    attempt.join()

    assert execution.result == [f"yes, approve-{who}: page of {who}" for who in WHO]
