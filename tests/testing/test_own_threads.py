"""Threads and event loops that a flow makes by itself: they take turns, whatever crashes, and in any order."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import anyio.to_thread
import pytest

from kitaru import checkpoint, flow, sleep, testing


@checkpoint
def double(number: int) -> int:
    return 2 * number


@checkpoint
async def fetch(who: str) -> str:
    await asyncio.sleep(0.01)
    return who


@checkpoint
async def by_anyio(number: int) -> int:
    return await anyio.to_thread.run_sync(lambda: number + 1)


@checkpoint
async def by_asyncio(number: int) -> int:
    return await asyncio.to_thread(lambda: number + 1)


async def branch(who: str) -> str:
    found = await fetch(who)
    await asyncio.sleep(0.01)
    return await fetch(found + "!")


async def branches() -> list[str]:
    return await asyncio.gather(*(branch(who) for who in ("ann", "bob", "cid")))


@flow
async def timers() -> int:
    await asyncio.sleep(3600)
    async with asyncio.timeout(7200):
        first = await asyncio.wait_for(fetch("ann"), 60)
    return len(first) + double(4)


@flow
async def timed_out() -> str:
    try:
        await asyncio.wait_for(asyncio.sleep(100), 1)
    except TimeoutError:
        return await fetch("late")
    return await fetch("early")


@flow
async def asyncio_thread() -> int:
    return await asyncio.to_thread(double, 2) + await by_asyncio(1)


@flow
async def anyio_threads() -> int:
    first = await anyio.to_thread.run_sync(double, 2)
    return first + sum(await asyncio.gather(by_anyio(1), by_anyio(2)))


@flow
def pool() -> list[int]:
    with ThreadPoolExecutor(2) as threads:
        return [future.result() for future in [threads.submit(double, number) for number in (1, 2, 3)]]


@flow
def pool_never_shut_down() -> list[int]:
    threads = ThreadPoolExecutor(2)
    futures = [threads.submit(double, number) for number in (1, 2, 3)]
    done, _ = concurrent.futures.wait(futures)
    return sorted(future.result() for future in done)


@flow
async def pool_awaited() -> int:
    with ThreadPoolExecutor(1) as threads:
        return await asyncio.get_running_loop().run_in_executor(threads, double, 5)


@flow
def joined() -> list[int]:
    found: list[int] = []

    def work(number: int) -> None:
        found.append(double(number))

    def rest(number: int) -> None:
        sleep(timedelta(days=number))
        work(number)

    threads = [threading.Thread(target=each, args=(number,)) for number, each in enumerate((work, rest), 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found)


@flow
def fed_by_a_queue() -> list[int]:
    found: queue.Queue[int] = queue.Queue()
    threading.Thread(target=lambda: found.put(double(3)), daemon=True).start()
    threading.Thread(target=lambda: found.put(double.submit(4).result()), daemon=True).start()
    return sorted(found.get() for _ in range(2))


@flow
def ends_where_nobody_sees_it_wait() -> int:
    found: queue.SimpleQueue[int] = queue.SimpleQueue()
    threading.Thread(target=lambda: found.put(double(3))).start()
    return found.get()


@flow
def locked() -> int:
    lock, total = threading.Lock(), [0]

    def add(number: int) -> None:
        with lock:
            total[0] += double(number)

    threads = [threading.Thread(target=add, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return total[0]


@flow
def looks_again_and_again() -> int:
    over, found = threading.Event(), list[int]()

    def work() -> None:
        sleep(timedelta(hours=1))
        found.append(double(1))
        over.set()

    threading.Thread(target=work).start()
    while not over.wait(0.01):
        pass
    return found[0]


@flow
def run_by_asyncio() -> list[str]:
    return asyncio.run(branches())


@flow
def run_by_a_runner() -> list[str]:
    with asyncio.Runner() as runner:
        return [*runner.run(branches()), runner.run(fetch("dan"))]


@flow
def run_on_a_new_loop() -> list[str]:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(branches())
    finally:
        loop.close()


@flow
def run_on_a_selector_loop() -> list[str]:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(branches())


@flow
def loops_in_threads() -> list[list[str]]:
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(lambda _: asyncio.run(branches()), range(2)))


FLOWS: list[tuple[Any, Any]] = [
    (timers, 11),
    (timed_out, "late"),
    (asyncio_thread, 6),
    (anyio_threads, 9),
    (pool, [2, 4, 6]),
    (pool_never_shut_down, [2, 4, 6]),
    (pool_awaited, 10),
    (joined, [2, 4]),
    (fed_by_a_queue, [6, 8]),
    (locked, 6),
    (looks_again_and_again, 2),
    (run_by_asyncio, ["ann!", "bob!", "cid!"]),
    (run_by_a_runner, ["ann!", "bob!", "cid!", "dan"]),
    (run_on_a_new_loop, ["ann!", "bob!", "cid!"]),
    (run_on_a_selector_loop, ["ann!", "bob!", "cid!"]),
    (loops_in_threads, [["ann!", "bob!", "cid!"]] * 2),
]
each_flow = pytest.mark.parametrize(("flow", "result"), FLOWS, ids=[each.name for each, _ in FLOWS])


@each_flow
def test_it_runs_to_its_end(flow: Any, result: Any) -> None:
    assert testing.run(flow, patience_seconds=10).result == result


@each_flow
def test_a_crash_at_any_write_changes_nothing(flow: Any, result: Any) -> None:
    assert testing.crash_everywhere(flow, patience_seconds=10) > 1


@each_flow
def test_no_order_changes_anything(flow: Any, result: Any) -> None:
    assert testing.explore(flow, seeds=range(15), patience_seconds=10) == 16


def test_a_flow_ends_that_waits_where_nobody_sees_it() -> None:
    assert testing.run(ends_where_nobody_sees_it_wait, patience_seconds=10).result == 6
