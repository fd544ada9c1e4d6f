"""The page of benchmarks is made from what was measured, and a peer that cannot be measured is a row of it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "bench"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.syspath_prepend(str(BENCH / "peers"))
    return importlib.import_module


@pytest.fixture
def pages(module: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Writes into a folder of the test's own."""
    run = module("run")
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(run, "PAGE", tmp_path / "docs" / "benchmarks.md")
    monkeypatch.setattr(run, "RECORD", tmp_path / "docs" / "benchmarks.json")
    return run


def reported(figure: dict[str, Any], **named: str) -> dict[str, Any]:
    machine = {"cpus": 2, "system": "Linux", "load": 0.1}
    return {**named, "commit": "abc", "machine": machine, "versions": {"kitaru": "0.1"}, "figures": [figure]}


def figure(name: str) -> dict[str, Any]:
    return {"name": name, "unit": "ms", "n": 3, "median": 1.5, "p95": 2.0, "targets": []}


def test_the_page_says_what_was_measured_and_nothing_else(module: Callable[[str], ModuleType]) -> None:
    record = json.loads((ROOT / "docs" / "benchmarks.json").read_text())

    assert (ROOT / "docs" / "benchmarks.md").read_text() == module("run").page(record)


def test_each_of_the_two_commands_keeps_the_others_part(pages: ModuleType) -> None:
    pages.write(pages.OWN, [reported(figure("a checkpoint"), script="bench_checkpoints.py")])
    pages.write(pages.PEERS, [reported(figure("DBOS"), title="A durable step", note="1,000 of them.")])
    pages.write(pages.OWN, [reported(figure("another checkpoint"), script="bench_checkpoints.py")])

    written = pages.PAGE.read_text()
    assert "| another checkpoint | 3 | 1.5 ms | 2 ms |" in written
    assert "| a checkpoint |" not in written
    assert "## A durable step\n\n1,000 of them.\n" in written
    assert "| DBOS | 3 |" in written


def test_a_peer_that_failed_is_a_row_with_the_reason(pages: ModuleType) -> None:
    pages.write(pages.PEERS, [reported({"name": "DBOS", "failed": "it did not start"}, title="Steps", note="Some.")])

    row = next(line for line in pages.PAGE.read_text().splitlines() if "DBOS" in line)
    assert row.endswith("not measured: it did not start |")
    assert row.count("|") == 11


def test_without_postgres_its_rows_say_how_to_get_it(module: Callable[[str], ModuleType], tmp_path: Path) -> None:
    systems, postgres = module("systems"), module("postgres")
    kind = next(kind for kind in systems.PEERS if kind.on == "postgres")

    system = systems.set_up(kind, tmp_path / "peer", postgres.Missing("not installed: apt-get install -y postgresql"))

    assert set(system.failed) == set(kind.works)
    assert set(system.failed.values()) == {"not installed: apt-get install -y postgresql"}


def test_a_reason_names_no_address_and_no_folder(module: Callable[[str], ModuleType]) -> None:
    told = module("environments").reason(
        "Resolving\nerror: GET https://index.example/simple/dbos in /home/me/.cache\n\nhint: retry\n"
    )

    assert told == "error: GET (address) in (path)"


def test_kitaru_stands_beside_the_fastest_peer_and_peers_beside_kitaru(module: Callable[[str], ModuleType]) -> None:
    table = module("tables").Table("Kitaru", limits=["raw"])
    for row, taken in {"raw": 1.0, "Kitaru": 2.0, "slow": 8.0, "fast": 4.0, "flaky": 0.5}.items():
        table.add(row, [taken, taken])
    table.fail("flaky", "it lost steps")

    rows = {row["name"]: row for row in table.as_json()}

    beside = {name: (row["beside"]["name"], row["beside"]["ratio"]) for name, row in rows.items() if "beside" in row}
    assert beside == {"raw": ("Kitaru", 0.5), "Kitaru": ("fast", 0.5), "slow": ("Kitaru", 4.0), "fast": ("Kitaru", 2.0)}
    assert rows["flaky"] == {"name": "flaky", "failed": "it lost steps"}
