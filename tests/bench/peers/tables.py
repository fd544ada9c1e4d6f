"""From rounds of measurements to rows: Kitaru beside the fastest peer, everything else beside Kitaru."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from measuring import Figure, Target

OWN = "Kitaru"


@dataclass
class Table:
    """What was measured for each row, round after round, and why it was not."""

    own: str
    unit: str = "ms"
    # Of the rows of Kitaru's that are named.
    targets: Mapping[str, Target] = field(default_factory=dict)
    # Rows that are no peers: limits of the machine.
    limits: Sequence[str] = ()
    # Rows that stand beside another than the rule says.
    beside: Mapping[str, str] = field(default_factory=dict)
    rows: dict[str, list[list[float]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    # How a row is called on the page, where that is more than its name.
    shown: dict[str, str] = field(default_factory=dict)

    def add(self, row: str, measured: Sequence[float] | float) -> None:
        self.rows.setdefault(row, []).append([measured] if isinstance(measured, (int, float)) else list(measured))

    def fail(self, row: str, reason: str) -> None:
        """Once is enough: no row is made of the rounds that went well."""
        self.rows.pop(row, None)
        self.failed[row] = reason

    def fastest(self) -> str | None:
        peers = [row for row in self.rows if not row.startswith(OWN) and row not in self.limits]
        return min(peers, key=lambda row: self._figure(row).value, default=None)

    def as_json(self) -> list[dict[str, Any]]:
        figures = [self._beside(row).as_json() for row in self.rows]
        return figures + [{"name": self._name(row), "failed": reason} for row, reason in self.failed.items()]

    def _beside(self, row: str) -> Figure:
        other = self.beside.get(row) or (self.fastest() if row.startswith(OWN) else self.own)
        if other is None or other not in self.rows:
            return self._figure(row)
        target = self.targets.get(row)
        figure = Figure(
            self._name(row), unit=self.unit, beside=self._name(other), targets=(target,) if target else (),
            rounds=self.rows[row], baseline=self.rows[other],
        )  # fmt: skip
        # Steps that executed again: nobody is so many times worse than none.
        return figure if all(map(any, figure.baseline)) else self._figure(row)

    def _figure(self, row: str) -> Figure:
        return Figure(self._name(row), unit=self.unit, rounds=self.rows[row])

    def _name(self, row: str) -> str:
        return self.shown.get(row, row)
