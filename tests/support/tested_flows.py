"""Flows that tests of kitaru.testing run: good ones, and ones with a fault each."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import kitaru
from kitaru import KitaruClient, checkpoint, current_execution_id, flow, sleep, wait, wait_any

charged: Counter[str] = Counter()
"""How often which key was charged."""


@checkpoint(retries=2, backoff=60)
def charge(key: str) -> str:
    charged[key] += 1
    if charged[key] == 1:
        raise ConnectionError("the bank does not answer")
    return "paid"


@checkpoint
def send(item: str) -> str:
    return f"sent {item}"


@flow
def order(item: str) -> str:
    if not wait(name="approve", schema=bool, timeout=timedelta(days=3), default=False, metadata={"item": item}):
        return "refused"
    charge(current_execution_id())
    sleep(timedelta(days=7))
    return send(item)


@checkpoint
async def fetch(number: int) -> int:
    await asyncio.sleep(3600)
    return 2 * number


@flow
async def gathered() -> list[Any]:
    values = await asyncio.gather(fetch(1), fetch(2))
    return [*values, await wait(name="more", schema=list[str])]


@checkpoint
async def ask_outside() -> list[Any]:
    async with asyncio.timeout(600):
        in_thread = await asyncio.to_thread(lambda: "from a thread")
        process = await asyncio.create_subprocess_exec("sleep", "0.05")
        return [in_thread, await process.wait()]


@flow
async def outside() -> list[Any]:
    return await ask_outside()


@flow
def step(number: int) -> int | None:
    agreed = wait(name="agree", schema=bool)
    sleep(timedelta(days=number))
    return number if agreed else None


@flow
def journey() -> list[int | None]:
    steps = [step.run(number) for number in (1, 2)]
    return [started.wait() for started in steps]


@flow
def asks_twice() -> list[str]:
    return [wait(name="word", schema=str), wait(name="word", schema=str)]


@flow
def asks_two() -> Any:
    return wait_any({"name": "lead", "schema": bool}, {"name": "manager", "schema": bool})


@flow(finish_timeout=3600)
def too_long() -> None:
    sleep(7200)


@flow
def refuses(word: str) -> None:
    raise ValueError(f"not {word}")


@flow
def tells_time() -> datetime:
    sleep(60)
    return kitaru.now()


@flow
def tells_home() -> str:
    return str(KitaruClient().home.root)


# Faults


@checkpoint
def keep(value: object) -> object:
    return value


@flow
def forgets_that_a_body_runs_again() -> object:
    return keep(random.random())


@flow
def goes_another_way() -> None:
    if random.random() < 0.5:
        keep(1)
    kitaru.save("last", 2)


payments: list[int] = []


@checkpoint
def pay(euros: int) -> None:
    payments.append(euros)


@flow
def pays_at_least_once() -> None:
    pay(3)


seats: list[str] = []


@checkpoint
def take_seat(name: str) -> int:
    seats.append(name)
    return seats.index(name)


@flow
def races() -> int:
    futures = take_seat.map(["ana", "bo"])
    return futures[0].result()
