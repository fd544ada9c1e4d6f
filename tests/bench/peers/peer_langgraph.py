"""LangGraph with its SQLite saver and durability="sync": the functional API's tasks, and a graph's nodes."""

from __future__ import annotations

import time
import uuid
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import program
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from program import CONCURRENT, KILLED_AT, LARGE, PAUSE_SECONDS, STEPS, Clock, main

# A graph refuses more steps than this, and by default it executes six tasks at once.
LIMITS = {"recursion_limit": STEPS + 10, "max_concurrency": CONCURRENT}

step = task(name="step")(program.step)
noted = task(name="noted")(program.noted)
large = task(name="large")(program.content)


@task
def pause(number: int) -> int:
    time.sleep(PAUSE_SECONDS)
    return number


class State(TypedDict, total=False):
    number: int
    count: int
    notes: str
    result: Any


@contextmanager
def saved(given: Namespace) -> Iterator[SqliteSaver]:
    with SqliteSaver.from_conn_string(given.store) as saver:
        saver.setup()
        yield saver


def thread(name: str) -> dict[str, object]:
    return {"configurable": {"thread_id": name}, **LIMITS}


def run(app: Any, inputs: object, name: str = "") -> float:
    """Milliseconds of an invocation: all that it wrote is written when it returns."""
    clock = Clock()
    app.invoke(inputs, thread(name or uuid.uuid4().hex), durability="sync")
    return clock.lap()


def sequential(saver: SqliteSaver, took: list[float]) -> Any:
    @entrypoint(checkpointer=saver)
    def functional(count: int) -> int:
        clock = Clock()
        for number in range(count):
            step(number).result()
            took.append(clock.lap())
        return count

    return functional


def loop(saver: SqliteSaver, node: Any) -> Any:
    """A graph of one node that follows itself."""
    builder = StateGraph(State)
    builder.add_node("step", node)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda state: "step" if state["number"] < state["count"] else END)
    return builder.compile(checkpointer=saver)


def sequential_graph(saver: SqliteSaver, took: list[float]) -> Any:
    clock = Clock()

    def node(state: State) -> State:
        took.append(clock.lap())
        return {"number": state["number"] + 1, "result": program.step(state["number"])}

    return loop(saver, node)


def steps(given: Namespace) -> dict[str, object]:
    took: list[float] = []
    with saved(given) as saver:
        before = program.sqlite_bytes(given.store)
        if given.flavour == "functional":
            whole = run(sequential(saver, took), STEPS)
        else:
            whole = run(sequential_graph(saver, took), {"number": 0, "count": STEPS})
        synchronous, mode = (
            saver.conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")
        )
        after = program.sqlite_bytes(given.store)
    # Writes are handed to a thread: what is still to be written after the last step belongs to the steps.
    rest = (whole - sum(took)) / STEPS
    return {
        "ms": [one + rest for one in took],
        "bytes": (after - before) / STEPS,
        "durability": program.sqlite_durability(synchronous, mode) + ", sync",
    }


def concurrent(given: Namespace) -> dict[str, object]:
    took = []

    def paused(state: State) -> State:
        time.sleep(PAUSE_SECONDS)
        return {}

    with saved(given) as saver:

        @entrypoint(checkpointer=saver)
        def functional(count: int) -> int:
            return len([future.result() for future in [pause(number) for number in range(count)]])

        builder = StateGraph(State)
        builder.add_node("pause", paused)
        builder.add_conditional_edges(START, lambda state: [Send("pause", state) for _ in range(state["count"])])
        graph = builder.compile(checkpointer=saver)
        for count in (1, CONCURRENT):
            took.append(run(functional, count) if given.flavour == "functional" else run(graph, {"count": count}))
    return {"ms": took[1:]}


def ten_megabytes(given: Namespace) -> dict[str, object]:
    with saved(given) as saver:
        if given.flavour == "functional":

            @entrypoint(checkpointer=saver)
            def functional(size: int) -> int:
                return len(large(size).result())

            return {"ms": [run(functional, LARGE)]}
        graph = loop(saver, lambda state: {"number": 1, "result": program.content(LARGE)})
        return {"ms": [run(graph, {"number": 0, "count": 1})]}


def killed(saver: SqliteSaver, flavour: str) -> Any:
    if flavour == "functional":

        @entrypoint(checkpointer=saver)
        def functional(notes: str) -> int:
            for number in range(STEPS):
                noted(number, notes).result()
            return STEPS

        return functional
    return loop(
        saver,
        lambda state: {"number": state["number"] + 1, "result": program.noted(state["number"], state["notes"])},
    )


def begin(given: Namespace) -> None:
    (given.folder / f"kill-{KILLED_AT}").touch()
    notes = str(given.folder)
    inputs = notes if given.flavour == "functional" else {"number": 0, "count": STEPS, "notes": notes}
    with saved(given) as saver:
        run(killed(saver, given.flavour), inputs, given.folder.name)


def resume(given: Namespace) -> float:
    with saved(given) as saver:
        return run(killed(saver, given.flavour), None, given.folder.name)


def setup(given: Namespace) -> None:
    with saved(given) as saver:
        run(sequential(saver, []), 1)


if __name__ == "__main__":
    main(
        {
            "setup": setup, "steps": steps, "concurrent": concurrent, "large": ten_megabytes, "begin": begin,
            "resume": resume,
        }
    )  # fmt: skip
