"""Runs every benchmark and writes docs/benchmarks.md.

    make bench                                      on the built wheel
    python tests/bench/run.py [--long] [NAME ...]   `checkpoints invoke`: these alone, printed, and nothing written
    python tests/bench/run.py --write NAME ...      these alone, in the places of what they said before
    python tests/bench/run.py --page                the page anew from what was measured

The scripts print JSON; the page is made of nothing else. It is kept in docs/benchmarks.json, so that this and
`make bench-peers` each write their part and leave the other's as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from causes import CAUSES

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks.md"
RECORD = PAGE.with_suffix(".json")
OWN, PEERS = "bench", "bench-peers"

HEAD = """# Benchmarks

Written by `make bench` and `make bench-peers`; no figure here is written by hand. Every figure was measured beside its
baseline, in turns, in one run on one machine: read the ratios, not the milliseconds. "Ratio" and "more" are medians
over the rounds of each round's own. One script alone: `python tests/bench/bench_NAME.py`, which prints JSON.
"""
BESIDE = """# Beside other systems

Written by `make bench-peers`: each system from the package index, in an environment of its own, in the version that is
named. Each row stands beside Kitaru's for the same work, and Kitaru's beside that of the fastest other system.
"""


def main() -> None:
    options = [given for given in sys.argv[1:] if given.startswith("--")]
    names = [given for given in sys.argv[1:] if not given.startswith("--")]
    if "--page" in options:
        PAGE.write_text(page(json.loads(RECORD.read_text())))
        return
    scripts = [HERE / f"bench_{name}.py" for name in names] or sorted(HERE.glob("bench_*.py"))
    reports = [run(script, options) for script in scripts]
    if not names:
        write(OWN, reports)
    elif "--write" in options:
        new = {report["script"]: report for report in reports}
        before = {report["script"]: report for report in json.loads(RECORD.read_text())[OWN]}
        write(OWN, [report for _, report in sorted({**before, **new}.items())])
    else:
        print(json.dumps(reports, indent=1))


def write(part: str, reports: Sequence[dict[str, Any]]) -> None:
    """The record with this part new, and the page that it makes."""
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    record[part] = reports
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    PAGE.write_text(page(record))
    print(f"{met(reports)}; written: {PAGE.relative_to(PAGE.parents[1])}")


def run(script: Path, options: Sequence[str]) -> dict[str, Any]:
    print(script.name, file=sys.stderr, flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, script, *options], env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{script.name} ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def page(record: dict[str, Any]) -> str:
    own, peers = record.get(OWN, []), record.get(PEERS, [])
    parts = [HEAD, f"{met([*own, *peers])}.\n", *(section(report) for report in own)]
    if peers:
        # Of one run, all of them.
        parts += [BESIDE, f"{provenance(peers[0])}\n", *(section(report) for report in peers)]
    return "\n".join(parts)


def met(reports: Sequence[dict[str, Any]]) -> str:
    figures = [figure for report in reports for figure in report["figures"]]
    targets = [target["met"] for figure in figures for target in figure.get("targets", ())]
    return f"{sum(targets)} of {len(targets)} targets reached"


def section(report: dict[str, Any]) -> str:
    lines = [
        f"## {report['title']}" if "title" in report else f"## `tests/bench/{report['script']}`",
        "",
        *([report["note"]] if "note" in report else [provenance(report)]),
        "",
        "| figure | n | median | p95 | beside | median | ratio | more | target | |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(row(figure) for figure in report["figures"]),
        "",
        *(f"Missed, {figure['name']}: {CAUSES[figure['name']]}\n" for figure in report["figures"] if has_cause(figure)),
    ]
    return "\n".join(lines)


def has_cause(figure: dict[str, Any]) -> bool:
    missed = any(not target["met"] for target in figure.get("targets", ()))
    return missed and figure["name"] in CAUSES


def provenance(report: dict[str, Any]) -> str:
    machine, versions = report["machine"], report["versions"]
    told = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"Commit {report['commit']}; {machine['cpus']} CPUs, {machine['system']}, load {machine['load']}; {told}."


def row(figure: dict[str, Any]) -> str:
    if "failed" in figure:
        return f"| {figure['name']} {'| ' * 9}not measured: {figure['failed']} |"
    unit, beside, targets = figure["unit"], figure.get("beside"), figure["targets"]
    cells = [figure["name"], str(figure["n"]), amount(figure["median"], unit), amount(figure["p95"], unit)]
    if beside is None:
        cells += ["", "", "", ""]
    else:
        cells += [beside["name"], amount(beside["median"], unit), number(beside["ratio"]), amount(beside["more"], unit)]
    cells.append(", ".join(words(target, unit) for target in targets))
    cells.append(" ".join("reached" if target["met"] else f"missed: {bound(target, unit)}" for target in targets))
    return f"| {' | '.join(cells)} |"


def words(target: dict[str, Any], unit: str) -> str:
    if target["bound"] == "ratio":
        return f"at most {number(target['at_most'])} x"
    return f"at most {amount(target['at_most'], unit)}{' more' if target['bound'] == 'more' else ''}"


def bound(target: dict[str, Any], unit: str) -> str:
    return f"{number(target['reached'])} x" if target["bound"] == "ratio" else amount(target["reached"], unit)


def amount(value: float, unit: str) -> str:
    return f"{number(value)} {unit}"


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
