"""Kitaru itself, and the machine's limits in SQLite: the work that the peers do, on Kitaru's flows, once."""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench_resume import killed
from measuring import milliseconds
from places import Place, RawJournal, database_bytes, place, process
from program import CONCURRENT, INVOKES, LARGE, STEPS

FLOWS = ("sequential", "gathered", "mapped", "returning", "killed", "noop")

# Where a measurement goes: table, row, values.
Add = Callable[[str, str, list[float] | float], None]


def weaker(add: Add) -> None:
    """Steps alone, and a home of its own: the durability that no peer is measured with."""
    with place(synchronous="NORMAL", flows=["sequential"]) as found:
        sequential(found, "NORMAL", add)


def started(found: Place, add: Add) -> None:
    add("import", "python -c pass", imported("pass"))
    add("import", "Kitaru", imported("import kitaru"))


def imported(statement: str, python: str = sys.executable, times: int = 5) -> list[float]:
    process(python, "-c", statement)
    return [process(python, "-c", statement) for _ in range(times)]


def sequential(found: Place, synchronous: str, add: Add) -> None:
    import flows  # type: ignore[import-not-found]  # of the project that was just made

    raw = RawJournal(found.home.root, synchronous)
    flows.sequential.run(1).wait()
    found.invoke("sequential", steps=1)
    add("steps", f"one raw commit, SQLite WAL, {synchronous}", raw.commits(STEPS))
    before = database_bytes(found.home)
    add("steps", f"Kitaru, in process, {synchronous}", flows.sequential.run(STEPS).wait())
    size = (database_bytes(found.home) - before) / STEPS
    add("steps", f"Kitaru, deployed, {synchronous}", found.invoke("sequential", steps=STEPS))
    if synchronous == "FULL":
        add("bytes", "Kitaru: database", size)
    raw.close()


def concurrent(found: Place, add: Add) -> None:
    import flows  # type: ignore[import-not-found]

    for flow, name in (("gathered", "by gather"), ("mapped", "by .map")):
        getattr(flows, flow).run(1).wait()
        found.invoke(flow, steps=1)
        add("concurrent", f"Kitaru, in process, {name}", getattr(flows, flow).run(CONCURRENT).wait())
        add("concurrent", f"Kitaru, deployed, {name}", found.invoke(flow, steps=CONCURRENT))


def resume(found: Place, add: Add) -> None:
    for victim in ("child", "runner"):
        took, command, executed = killed(found, victim, found.home.root / f"{victim}-killed")
        if victim == "runner":
            add("resume", "Kitaru, runner and child killed, `kitaru executions resume`", command)
        else:
            add("resume", "Kitaru, child killed, from then to the end", took)
        add("again", f"Kitaru, {victim} killed: steps executed again", sum(executed.values()) - STEPS)


def invoke(found: Place, add: Add) -> None:
    found.invoke("noop")
    add("invoke", "Kitaru", [milliseconds(lambda: found.invoke("noop")) for _ in range(INVOKES)])


def large(found: Place, add: Add) -> None:
    import flows  # type: ignore[import-not-found]

    flows.returning.run(1 << 10).wait()
    found.invoke("returning", size=1 << 10)
    add("large", "Kitaru, in process", flows.returning.run(LARGE).wait())
    add("large", "Kitaru, deployed", found.invoke("returning", size=LARGE))


WORKS: dict[str, Callable[[Place, Add], None]] = {
    "steps": lambda found, add: sequential(found, "FULL", add),
    "concurrent": concurrent,
    "resume": resume,
    "invoke": invoke,
    "large": large,
    "import": started,
}
