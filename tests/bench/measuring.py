"""Figures: what was measured, beside what, and what was meant to be reached."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[2]

Bound = Literal["value", "ratio", "more"]


@dataclass(frozen=True)
class Target:
    """`bound`: the figure itself, its ratio to what stands beside it, or how much more than that it is."""

    bound: Bound
    at_most: float


@dataclass
class Figure:
    """Rounds of measurements, each beside the round of the baseline that was measured right before it."""

    name: str
    unit: str = "ms"
    beside: str | None = None
    targets: tuple[Target, ...] = ()
    rounds: list[list[float]] = field(default_factory=list)
    baseline: list[list[float]] = field(default_factory=list)

    def add(self, measured: Sequence[float] | float, baseline: Sequence[float] | float | None = None) -> None:
        self.rounds.append(as_list(measured))
        if baseline is not None:
            self.baseline.append(as_list(baseline))

    @property
    def value(self) -> float:
        return median(chain(*self.rounds))

    def reached(self, bound: Bound) -> float:
        """Ratio and difference are medians over the rounds: what slowed both sides of a round down cancels out."""
        if bound == "value":
            return self.value
        pairs = [(median(a), median(b)) for a, b in zip(self.rounds, self.baseline, strict=True)]
        return median(a / b for a, b in pairs) if bound == "ratio" else median(a - b for a, b in pairs)

    def as_json(self) -> dict[str, Any]:
        figure: dict[str, Any] = {"name": self.name, "unit": self.unit, **spread(self.rounds)}
        if self.beside is not None:
            figure["beside"] = {
                "name": self.beside,
                **spread(self.baseline),
                "ratio": rounded(self.reached("ratio")),
                "more": rounded(self.reached("more")),
            }
        figure["targets"] = [
            {
                "bound": target.bound,
                "at_most": target.at_most,
                "reached": rounded(self.reached(target.bound)),
                "met": self.reached(target.bound) <= target.at_most,
            }
            for target in self.targets
        ]
        return figure


def as_list(measured: Sequence[float] | float) -> list[float]:
    return [measured] if isinstance(measured, (int, float)) else list(measured)


def spread(rounds: list[list[float]]) -> dict[str, Any]:
    values = sorted(chain(*rounds))
    p95 = values[min(len(values) - 1, int(len(values) * 0.95))]
    return {"n": len(values), "median": rounded(median(values)), "p95": rounded(p95)}


def rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def milliseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def report(script: str, figures: Sequence[Figure]) -> None:
    """Print the JSON of one script."""
    print(
        json.dumps(
            {
                "script": Path(script).name,
                "commit": commit(),
                "machine": machine(),
                "versions": versions(),
                "figures": [figure.as_json() for figure in figures],
            },
            indent=1,
        )
    )


def commit() -> str:
    """The checkout's, with `+` where files differ from it; of nothing where this is no repository."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    return asked.stdout.strip() or "unknown"


def machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
    }


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in ("kitaru", "sqlalchemy", "pydantic", "typer")},
    }


def asked_for(option: str) -> bool:
    return option in sys.argv[1:]
