"""What of a journal still counts, after retries and accepted divergences. Pure: rows in, rows out."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kitaru_registry.executions.journal import Row
from kitaru_registry.giving_up import says_given_up

KEPT = "!kept"
"""Ends the key of the entry which says that the flow came to a call whose outcome the replay had only kept."""

FAILING = "cwxn"
"""Kinds of rows that can hold a failure: a checkpoint's, a child execution's, and that none could be started."""


@dataclass(frozen=True, slots=True)
class Current:
    """A row that counts.

    soft: recorded behind a failure that was superseded, or kept by a replay from behind the point where it begins. It
    is used where the flow makes the very same call again, and passed over where it does not.
    """

    row: Row
    soft: bool = False


def current_rows(
    rows: Sequence[Row], replay: Mapping[str, Any] | None = None
) -> tuple[list[Current], tuple[tuple[str, int], ...]]:
    """The rows that count, in order; and scope and place of each accepted divergence.

    Args:
        replay: of an execution that is a replay: which of its first rows it reuses, and which it only keeps.
    """
    kept = kept_rows(replay)
    current: list[Current] = []
    accepted: dict[str, int] = {}
    for row in rows:
        said: dict[str, Any] = json.loads(row.metadata) if row.kind in "ra" and row.metadata else {}
        if row.kind == "r":
            current = without(current, said["superseded"])
        elif row.kind == "a":
            accepted[said["scope"]] = min(said["place"], accepted.get(said["scope"], said["place"]))
        current.append(Current(row, soft=row.seq in kept and row.kind not in "ra"))
    return without_overtaken(current), tuple(accepted.items())


def kept_rows(replay: Mapping[str, Any] | None) -> range:
    """The numbers of the rows that a replay only keeps, for calls that the flow may come to."""
    return range(replay["reused"] + 1, replay["copied"] + 1) if replay else range(0)


def without_unused(current: Sequence[Current], replay: Mapping[str, Any] | None) -> list[Current]:
    """Without the outcomes of checkpoints that a replay kept, and to whose calls the flow has not come."""
    kept = kept_rows(replay)
    used = {c.row.key for c in current if c.row.kind == "d"} if kept else set()
    return [c for c in current if c.row.kind != "c" or c.row.seq not in kept or f"{c.row.key}{KEPT}" in used]


def without_overtaken(rows: Sequence[Current]) -> list[Current]:
    """Without outcomes whose caller gave up before it got them: that is on record later, and counts."""
    given_up = {(c.row.kind, c.row.key): c.row.seq for c in rows if c.row.kind in "cw" and is_cancellation(c.row)}
    return [c for c in rows if given_up.get((c.row.kind, c.row.key), 0) <= c.row.seq or c.row.kind not in "cw"]


def without(rows: Sequence[Current], superseded: Collection[str]) -> list[Current]:
    """Without these failures, what belongs to them, and the cancellations that came of them."""
    first = min((c.row.seq for c in rows if c.row.kind in FAILING and c.row.key in superseded), default=None)
    if first is None:
        return list(rows)
    return [
        Current(c.row, soft=c.soft or (c.row.seq > first and c.row.kind not in "ra"))
        for c in rows
        if not is_part_of(c.row.key, superseded)
        and not (c.row.seq > first and is_cancellation(c.row))
        and checkpoint_of(c.row) not in superseded
    ]


def is_part_of(key: str, keys: Collection[str]) -> bool:
    return key in keys or any(key.startswith((f"{outer}/", f"{outer}!")) for outer in keys)


def checkpoint_of(row: Row) -> str | None:
    """The checkpoint whose failure this is: another's, where that kept this one from being called."""
    found: str | None = json.loads(row.error).get("checkpoint") if row.kind == "c" and row.error else None
    return found


def is_cancellation(row: Row) -> bool:
    return row.error is not None and says_given_up(json.loads(row.error))
