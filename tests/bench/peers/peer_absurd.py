"""Absurd on Postgres: the steps of a task that a worker in this process executes, and a worker of its own to invoke."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import program
from absurd_sdk import Absurd, AsyncAbsurd, AsyncTaskContext, TaskContext, TaskResultSnapshot
from program import CONCURRENT, INVOKES, KILLED_AT, LARGE, PAUSE_SECONDS, STEPS, Clock, main

QUEUE = "default"
# How long a dead worker's task is kept from others; its default of 120 seconds would be the whole figure.
LEASE_SECONDS = 10
# Its worker's default.
POLL_SECONDS = 0.25


def sequential(count: int, ctx: TaskContext) -> list[float]:
    clock, took = Clock(), []
    for number in range(count):
        ctx.step("step", lambda number=number: program.step(number))
        took.append(clock.lap())
    return took


async def gathered(count: int, ctx: AsyncTaskContext) -> float:
    async def pause() -> int:
        await asyncio.sleep(PAUSE_SECONDS)
        return 0

    clock = Clock()
    await asyncio.gather(*[ctx.step("pause", pause) for _ in range(count)])
    return clock.lap()


def returning(size: int, ctx: TaskContext) -> float:
    """Its values are JSON: text instead of bytes."""
    clock = Clock()
    ctx.step("large", lambda: program.content(size // 2).hex())
    return clock.lap()


def killed(notes: str, ctx: TaskContext) -> int:
    for number in range(STEPS):
        ctx.step("noted", lambda number=number: program.noted(number, notes))
    return STEPS


def noop(params: object, ctx: TaskContext) -> None:
    return None


def client(given: Namespace) -> Absurd:
    absurd = Absurd(given.store, queue_name=QUEUE)
    for task in (sequential, returning, killed, noop):
        absurd.register_task(name=task.__name__)(task)
    return absurd


def here(given: Namespace, task: str, argument: object) -> Any:
    """The result of a task that is spawned and worked on here."""
    absurd = client(given)
    spawned = absurd.spawn(task, argument)
    absurd.work_batch(claim_timeout=LEASE_SECONDS)
    found = absurd.fetch_task_result(spawned["task_id"])
    absurd.close()
    return completed(found)


def completed(found: TaskResultSnapshot | None) -> Any:
    assert found is not None
    assert found.state == "completed", found
    return found.result


def setup(given: Namespace) -> None:
    absurdctl = Path(sys.executable).with_name("absurdctl")
    for command in (["init"], ["create-queue", QUEUE]):
        subprocess.run([absurdctl, *command, "--database", given.store], check=True, stdout=subprocess.DEVNULL)
    here(given, "sequential", 1)


def steps(given: Namespace) -> dict[str, object]:
    before = program.postgres_bytes(given.store)
    took = here(given, "sequential", STEPS)
    size = (program.postgres_bytes(given.store) - before) / STEPS
    return {"ms": took, "bytes": size, "durability": program.postgres_durability(given.store)}


async def gather(given: Namespace, count: int) -> Any:
    absurd = AsyncAbsurd(given.store, queue_name=QUEUE)
    absurd.register_task(name="gathered")(gathered)
    spawned = await absurd.spawn("gathered", count)
    await absurd.work_batch(claim_timeout=LEASE_SECONDS)
    found = await absurd.fetch_task_result(spawned["task_id"])
    await absurd.close()
    return completed(found)


def concurrent(given: Namespace) -> dict[str, object]:
    asyncio.run(gather(given, 1))
    return {"ms": [asyncio.run(gather(given, CONCURRENT))]}


def ten_megabytes(given: Namespace) -> dict[str, object]:
    return {"ms": [here(given, "returning", LARGE)]}


def begin(given: Namespace) -> None:
    (given.folder / f"kill-{KILLED_AT}").touch()
    absurd = client(given)
    spawned = absurd.spawn("killed", str(given.folder))
    (given.folder / "task").write_text(str(spawned["task_id"]))
    absurd.work_batch(claim_timeout=LEASE_SECONDS)


def resume(given: Namespace) -> int:
    """Works until the task has ended: nobody may claim it before its lease is over."""
    absurd = client(given)
    task = (given.folder / "task").read_text()
    while (found := absurd.fetch_task_result(task)) is None or found.state != "completed":
        time.sleep(POLL_SECONDS)
        absurd.work_batch(claim_timeout=LEASE_SECONDS)
    absurd.close()
    return STEPS


def serve(given: Namespace) -> None:
    absurd = client(given)
    (given.folder / "serving").touch()
    absurd.start_worker()


def invoke(given: Namespace) -> dict[str, object]:
    absurd, took = client(given), []
    for _ in range(INVOKES + 1):
        clock = Clock()
        absurd.await_task_result(absurd.spawn("noop", None)["task_id"])
        took.append(clock.lap())
    absurd.close()
    return {"ms": took[1:]}


if __name__ == "__main__":
    main(
        {
            "setup": setup, "steps": steps, "concurrent": concurrent, "large": ten_megabytes, "begin": begin,
            "resume": resume, "serve": serve, "invoke": invoke,
        }
    )  # fmt: skip
