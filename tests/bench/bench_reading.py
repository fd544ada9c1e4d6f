"""What is read of an execution: the same, however long its journal is; and one found among very many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench_growth import fill
from measuring import Figure, Target, milliseconds, report
from places import PATIENCE_SECONDS, Place, place

from kitaru_registry.executions import reading

LONG, SHORT = 10_000, 10
AMONG = 100_000
ROUNDS = 15


def long_and_short(found: Place) -> list[Figure]:
    from flows import counted  # type: ignore[import-not-found]  # of the project that was just made

    executions, handles = found.client.executions, {SHORT: counted.run(SHORT)}
    handles[SHORT].wait(PATIENCE_SECONDS)
    lists = [milliseconds(executions.list) for _ in range(ROUNDS)]
    handles[LONG] = counted.run(LONG)
    handles[LONG].wait(PATIENCE_SECONDS)
    calls: dict[str, Callable[[Any], object]] = {
        "handle.get()": lambda handle: handle.get(),
        "handle.wait() of what has ended": lambda handle: handle.wait(),
        "following the log of what has ended": lambda handle: list(executions.follow(handle.exec_id)),
    }
    listed = Figure("executions.list() with one of 10,000 checkpoints", beside="without", targets=(Target("ratio", 2),))
    listed.add([milliseconds(executions.list) for _ in range(ROUNDS)], lists)
    figures = [listed]
    for name, call in calls.items():
        figure = Figure(f"{name}, {LONG:,} checkpoints", beside=f"{SHORT} checkpoints", targets=(Target("ratio", 2),))
        for _ in range(ROUNDS):
            figure.add(*(milliseconds(lambda steps=steps, c=call: c(handles[steps])) for steps in (LONG, SHORT)))
        figures.append(figure)
    return figures


def among_many(found: Place) -> Figure:
    fill(found, AMONG)
    exec_id = found.client.executions.list(limit=1)[0].exec_id
    figure = Figure(f"find an execution by its id among {AMONG:,}", targets=(Target("value", 1),))
    for _ in range(ROUNDS):
        figure.add(milliseconds(lambda: reading.find_id(found.client.database, exec_id)))
    return figure


def main() -> None:
    with place(synchronous="NORMAL") as found:
        figures = long_and_short(found)
        report(__file__, [*figures, among_many(found)])


if __name__ == "__main__":
    main()
