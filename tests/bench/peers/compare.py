"""Measures Kitaru beside its peers and writes their part of docs/benchmarks.md.

    make bench-peers                            on the built wheel
    python tests/bench/peers/compare.py [NAME]  `absurd`: the peers whose name has that in it; printed, nothing written

A round does each work once: on the limits, on Kitaru, on each peer, right after one another. A peer that cannot be
had or fails is a row with the reason.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import own
from environments import Unavailable
from measuring import ROOT, Target, commit, machine, versions
from places import place, remove
from postgres import Missing, Postgres, postgres
from program import INVOKES, KILLED_AT, LARGE, STEPS
from run import PEERS as PART
from run import write
from systems import PEERS, POSTGRES_LIMIT, System, set_up
from tables import Table

ROUNDS = 3
NORMAL = "one raw commit, SQLite WAL, NORMAL"
RAW = (NORMAL, "one raw commit, SQLite WAL, FULL", POSTGRES_LIMIT.name)
FASTER = Target("ratio", 0.4)

# Title, note, and the tables that stand below them.
SECTIONS = (
    (
        "A durable step",
        f"{STEPS:,} no-op steps one after another, each returning a small dict; the durability is what the open "
        "database answered. Bytes are those of the database, without free pages and dead rows.",
        ("steps", "bytes"),
    ),
    (
        "100 concurrent steps of 10 ms",
        "From the first that begins to the last that is recorded. On an event loop, or in threads where that is the "
        "peer's way; LangGraph with `max_concurrency=100`.",
        ("concurrent",),
    ),
    (
        f"SIGKILL at step {KILLED_AT} of {STEPS:,}, and on to the end",
        "The whole process that resumes, its start and imports included; the step that was killed has to execute "
        "again. Absurd keeps a dead worker's task for its lease, here 10 s, by default 120.",
        ("resume", "again"),
    ),
    (
        "Invoke a deployed no-op, call to result",
        f"Another process executes it, and everything polls as it does by default; {INVOKES} in a round.",
        ("invoke",),
    ),
    (
        f"A step that returns {LARGE >> 20} MB",
        "Bytes; in Absurd, whose values are JSON, text.",
        ("large",),
    ),
    (
        "`import`",
        "A whole process, bytecode compiled.",
        ("import",),
    ),
)  # fmt: skip


def tables() -> dict[str, Table]:
    targets = {f"Kitaru, {where}, FULL": FASTER for where in ("in process", "deployed")}
    # No peer is that weak: beside the limit of as weak a durability.
    weak = {f"Kitaru, {where}, NORMAL": NORMAL for where in ("in process", "deployed")}
    weak[NORMAL] = "Kitaru, in process, NORMAL"
    found = {
        "steps": Table("Kitaru, in process, FULL", targets=targets, limits=RAW, beside=weak),
        "bytes": Table("Kitaru: database", unit="bytes"),
        "concurrent": Table("Kitaru, in process, by gather"),
        "resume": Table("Kitaru, runner and child killed, `kitaru executions resume`"),
        "again": Table("Kitaru, runner killed: steps executed again", unit="steps"),
        "invoke": Table("Kitaru"),
        "large": Table("Kitaru, in process"),
        "import": Table("Kitaru", limits=["python -c pass"]),
    }
    found["invoke"].fail("LangGraph", "the library deploys nothing; that is a server of its own")
    return found


def main() -> None:
    kinds = [kind for kind in PEERS if all(part in kind.name.lower() for part in sys.argv[1:])]
    found = tables()
    with work() as folder, server() as database:
        systems = [set_up(kind, folder / f"peer{n}", database) for n, kind in enumerate([POSTGRES_LIMIT, *kinds])]
        for system in systems:
            for work_name, why in system.failed.items():
                fail(found, system, work_name, why)
        for number in range(ROUNDS):
            print(f"round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
            one_round(number, systems, found)
    numbers = {**versions(), **installed(systems, database)}
    reports = [section(*told, found, numbers) for told in SECTIONS]
    if sys.argv[1:]:
        print(json.dumps(reports, indent=1))
    else:
        write(PART, reports)


@contextmanager
def work() -> Iterator[Path]:
    """On the checkout's disk."""
    parent = ROOT / ".work" / "bench"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="peers-", dir=parent))
    try:
        yield folder
    finally:
        remove(folder)


@contextmanager
def server() -> Iterator[Postgres | Missing]:
    with ExitStack() as started:
        database: Postgres | Missing
        try:
            database = started.enter_context(postgres())
        except Missing as missing:
            database = missing
        yield database


def one_round(number: int, systems: Sequence[System], found: dict[str, Table]) -> None:
    def add(table: str, row: str, values: Sequence[float] | float) -> None:
        found[table].add(row, values)

    own.weaker(add)
    with place(flows=own.FLOWS) as kitaru:
        for name, measure in own.WORKS.items():
            measure(kitaru, add)
            for system in systems:
                if name in system.kind.works and name not in system.failed:
                    peer(system, name, number, found)


def peer(system: System, name: str, number: int, found: dict[str, Table]) -> None:
    try:
        WORKS[name](system, number, found)
    except Unavailable as refused:
        system.failed[name] = str(refused)
        fail(found, system, name, str(refused))


def fail(found: dict[str, Table], system: System, name: str, why: str) -> None:
    print(f"{system.kind.name}, {name}: {why}", file=sys.stderr)
    for table in {"steps": ("steps", "bytes"), "resume": ("resume", "again")}.get(name, (name,)):
        if not (table == "bytes" and system.kind is POSTGRES_LIMIT):
            found[table].fail(system.kind.name, why)


def steps(system: System, number: int, found: dict[str, Table]) -> None:
    answer = system.ask("steps")
    found["steps"].add(system.kind.name, answer["ms"])
    found["steps"].shown[system.kind.name] = f"{system.kind.name} ({answer['durability']})"
    if "bytes" in answer:
        found["bytes"].add(system.kind.name, answer["bytes"])
        found["bytes"].shown[system.kind.name] = f"{system.kind.name}: database"


def resume(system: System, number: int, found: dict[str, Table]) -> None:
    took, again = system.resumed(number)
    found["resume"].add(system.kind.name, took)
    found["again"].add(system.kind.name, again)
    found["again"].shown[system.kind.name] = f"{system.kind.name}: steps executed again"


def started(system: System, number: int, found: dict[str, Table]) -> None:
    assert system.environment is not None
    found["import"].add(system.kind.name, own.imported(f"import {system.kind.imports}", str(system.environment.python)))


WORKS: dict[str, Callable[[System, int, dict[str, Table]], None]] = {
    "steps": steps,
    "concurrent": lambda system, _, found: found["concurrent"].add(system.kind.name, system.ask("concurrent")["ms"]),
    "resume": resume,
    "invoke": lambda system, number, found: found["invoke"].add(system.kind.name, system.invoked(number)),
    "large": lambda system, _, found: found["large"].add(system.kind.name, system.ask("large")["ms"]),
    "import": started,
}


def installed(systems: Sequence[System], database: Postgres | Missing) -> dict[str, str]:
    numbers: dict[str, str] = {}
    for system in systems:
        numbers |= system.environment.versions if system.environment else {}
    return numbers | ({"postgresql": database.version} if isinstance(database, Postgres) else {})


def section(
    title: str, note: str, names: Sequence[str], found: dict[str, Table], numbers: dict[str, str]
) -> dict[str, Any]:
    return {
        "title": title,
        "note": note,
        "commit": commit(),
        "machine": machine(),
        "versions": numbers,
        "figures": [figure for name in names for figure in found[name].as_json()],
    }


if __name__ == "__main__":
    main()
