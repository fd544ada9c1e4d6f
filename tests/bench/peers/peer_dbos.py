"""DBOS, on SQLite or Postgres, with its defaults: the steps of a workflow in this process, and a queue for `invoke`."""

from __future__ import annotations

import asyncio
import threading
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

import program
from dbos import DBOS, DBOSClient, SetWorkflowID
from program import CONCURRENT, INVOKES, KILLED_AT, LARGE, PAUSE_SECONDS, STEPS, Clock, main

QUEUE = "bench"
# A workflow's process finds it again by its id.
KILLED = "killed-{}"

step = DBOS.step(name="step")(program.step)
noted = DBOS.step(name="noted")(program.noted)
large = DBOS.step(name="large")(program.content)


@DBOS.step()
async def pause(number: int) -> int:
    await asyncio.sleep(PAUSE_SECONDS)
    return number


@DBOS.workflow()
def sequential(count: int) -> list[float]:
    clock, took = Clock(), []
    for number in range(count):
        step(number)
        took.append(clock.lap())
    return took


@DBOS.workflow()
async def gathered(count: int) -> float:
    clock = Clock()
    await asyncio.gather(*[pause(number) for number in range(count)])
    return clock.lap()


@DBOS.workflow()
def returning(size: int) -> float:
    clock = Clock()
    large(size)
    return clock.lap()


@DBOS.workflow()
def killed(notes: str) -> int:
    for number in range(STEPS):
        noted(number, notes)
    return STEPS


@DBOS.workflow()
def noop() -> None:
    return None


@contextmanager
def launched(given: Namespace) -> Iterator[DBOS]:
    dbos = DBOS(config={"name": "bench", "system_database_url": given.store, "log_level": "ERROR"})
    DBOS.launch()
    try:
        yield dbos
    finally:
        DBOS.destroy()


def setup(given: Namespace) -> None:
    with launched(given):
        sequential(1)


def size(given: Namespace) -> int:
    if given.store.startswith("sqlite"):
        return program.sqlite_bytes(given.store.removeprefix("sqlite:///"))
    return program.postgres_bytes(given.store)


def durability(given: Namespace, dbos: DBOS) -> str:
    if not given.store.startswith("sqlite"):
        return program.postgres_durability(given.store)
    with dbos._sys_db.engine.connect() as connection:
        synchronous, mode = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("synchronous", "journal_mode")
        )
    return program.sqlite_durability(synchronous, mode)


def steps(given: Namespace) -> dict[str, object]:
    before = size(given)
    with launched(given) as dbos:
        took, kept = sequential(STEPS), durability(given, dbos)
    return {"ms": took, "bytes": (size(given) - before) / STEPS, "durability": kept}


def concurrent(given: Namespace) -> dict[str, object]:
    with launched(given):
        asyncio.run(gathered(1))
        return {"ms": [asyncio.run(gathered(CONCURRENT))]}


def ten_megabytes(given: Namespace) -> dict[str, object]:
    with launched(given):
        return {"ms": [returning(LARGE)]}


def begin(given: Namespace) -> None:
    (given.folder / f"kill-{KILLED_AT}").touch()
    with launched(given), SetWorkflowID(KILLED.format(given.folder.name)):
        killed(str(given.folder))


def resume(given: Namespace) -> int:
    """Launching takes up what the process that died left pending."""
    with launched(given):
        return DBOS.retrieve_workflow(KILLED.format(given.folder.name)).get_result(polling_interval_sec=0.01)


def serve(given: Namespace) -> None:
    with launched(given):
        DBOS.register_queue(QUEUE)
        (given.folder / "serving").touch()
        threading.Event().wait()


def invoke(given: Namespace) -> dict[str, object]:
    client = DBOSClient(system_database_url=given.store)
    took = []
    for _ in range(INVOKES + 1):
        clock = Clock()
        client.enqueue({"queue_name": QUEUE, "workflow_name": noop.__qualname__}).get_result()
        took.append(clock.lap())
    client.destroy()
    return {"ms": took[1:]}


if __name__ == "__main__":
    main(
        {
            "setup": setup, "steps": steps, "concurrent": concurrent, "large": ten_megabytes, "begin": begin,
            "resume": resume, "serve": serve, "invoke": invoke,
        }
    )  # fmt: skip
