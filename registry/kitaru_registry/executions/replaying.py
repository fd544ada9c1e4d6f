"""What a replay reuses of a recorded execution. Pure: rows in, a plan out; replays.py writes what it says.

A replay is a new execution whose journal begins as the old one's: as if that had been cut short just before the call
that the replay begins at was recorded. Behind it two kinds of rows are kept too, and used where the flow makes the very
same call: outcomes of checkpoints that a replay may never execute, and outcomes that were given for the replay.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kitaru_registry.errors import KitaruConflictError, KitaruNotFoundError, KitaruUsageError
from kitaru_registry.executions.journal import Row
from kitaru_registry.executions.superseding import Current, current_rows, is_part_of
from kitaru_registry.journal.entries import REPLAY_NEVER
from kitaru_registry.names import nearest

FAILED = "failed"
"""The selector of the first failure that reached the top of the flow."""

GUARDED = "!guarded"
"""Ends the key of the warning that such a checkpoint was called in a replay which had no outcome of it."""

KEYS_NAMED = 12


@dataclass(frozen=True, slots=True)
class Override:
    """One `checkpoint.SELECTOR` or `wait.SELECTOR`."""

    written: str
    kind: str
    """`checkpoint` or `wait`"""
    selector: str
    value: Any


@dataclass(frozen=True, slots=True)
class AskedWait:
    """What is known of one wait for input; one of a group (`wait_any`) has the group's key."""

    key: str
    name: str
    any_of: str | None = None
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make a replay of, and how."""

    from_: str | None = None
    overrides: Sequence[Override] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What was recorded of an execution."""

    exec_id: str
    rows: Sequence[Row]
    waits: Sequence[AskedWait] = ()
    failed: Sequence[str] = ()
    """The checkpoints whose failures reached the top."""
    running: Sequence[str] = ()
    """The checkpoints that it was in when its process ended."""
    status: str = "failed"
    replay: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """An outcome that is given for a call."""

    override: Override
    key: str
    name: str
    place: int | None
    type: str | None
    recorded: Row | None
    """What it stands for."""


@dataclass(frozen=True, slots=True)
class Plan:
    copied: tuple[Row | Given, ...]
    """The journal that the new execution begins with."""
    reused: int
    """So many of them are reused in order; those behind are used where the same call is made."""
    begins_at: str | None
    """The key of the first call that executes again; None: what comes after the last recorded one."""
    executes: tuple[Row, ...]
    """Recorded calls that will execute again, if the flow goes the same way."""
    kept: tuple[str, ...]
    """Keys of recorded calls that stay as they are behind the cut: a replay never executes them."""
    answers: Mapping[str, Override] = field(default_factory=dict)
    """Answers that are given, by the wait's key."""
    answered: tuple[str, ...] = ()
    """The keys under which those are recorded: of a group, the group's."""

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for row in self.copied if isinstance(row, Row))

    @property
    def given(self) -> tuple[Given, ...]:
        return tuple(row for row in self.copied if isinstance(row, Given))


@dataclass(frozen=True, slots=True)
class Point:
    """A call of the execution, and where in its journal."""

    key: str
    name: str
    seq: float
    row: Row | None = None


def parse_overrides(overrides: Mapping[str, Any]) -> tuple[Override, ...]:
    """
    Raises:
        KitaruUsageError: one names neither a checkpoint nor a wait.
    """
    found = []
    for written, value in overrides.items():
        kind, dot, selector = written.partition(".") if isinstance(written, str) else ("", "", "")
        if kind not in ("checkpoint", "wait") or not dot or not selector:
            raise KitaruUsageError(
                f"the override {written!r} names neither a checkpoint nor a wait",
                hint='write "checkpoint.NAME" or "wait.NAME"; a key, such as map[0]/draft, in place of the name too',
            )
        found.append(Override(written, kind, selector, value))
    return tuple(found)


def plan(known: Known, wanted: Wanted, *, keeps: bool = True) -> Plan:
    """What a replay reuses, what it is given, and what executes again.

    Args:
        keeps: False where the code's journal protocol is 1, which knows no rows behind the cut.

    Raises:
        KitaruNotFoundError, KitaruConflictError: a selector fits nothing, or several calls; the keys are named.
    """
    current, _ = current_rows(known.rows, known.replay)
    points = calls(known, current)
    begin = find_begin(known, points, wanted.from_) if wanted.from_ is not None else None
    overridden = [(find_overridden(known, points, override), override) for override in wanted.overrides]
    refuse_twice(overridden)
    if begin is not None:
        refuse_guarded(known, begin, [point.key for point, _ in overridden])
    cut = min((point.seq for point in (begin, *(p for p, _ in overridden)) if point is not None), default=float("inf"))
    again = [point.key for point, _ in overridden] + ([begin.key] if begin is not None else [])
    given = [as_given(point, override) for point, override in overridden if override.kind == "checkpoint"]
    at_cut = [it for (point, _), it in zip(checkpoints_in(overridden), given, strict=True) if point.seq == cut]
    behind = [it for it in given if it not in at_cut]
    reused: list[Row | Given] = [*(c.row for c in current if is_reused(c, cut, again)), *at_cut]
    kept = [c.row for c in current if is_kept(c, cut, again)] if keeps else []
    if behind and not keeps:
        raise KitaruConflictError(
            f"{behind[0].override.written} comes after the beginning of the replay, which this version cannot do",
            hint="deploy the flow again: it was deployed by a Kitaru that had no replays",
        )
    answers = {point.key: override for point, override in overridden if override.kind == "wait"}
    answered = tuple(wait.any_of or wait.key for wait in known.waits if wait.key in answers)
    stays = {*(row.key for row in kept), *(it.key for it in given), *answered}
    return Plan(
        copied=(*reused, *kept, *behind),
        reused=len(reused),
        begins_at=first_again(current, cut, begin, stays),
        executes=tuple(c.row for c in current if executes_again(c, cut, stays, points)),
        kept=tuple(row.key for row in kept if row.seq >= cut),
        answers=answers,
        answered=answered,
    )


def is_reused(current: Current, cut: float, again: Collection[str]) -> bool:
    row = current.row
    if row.kind == "a":
        return True
    return not current.soft and row.kind != "r" and row.seq < cut and not is_part_of(row.key, again)


def is_kept(current: Current, cut: float, again: Collection[str]) -> bool:
    row = current.row
    if row.kind == "c" and (row.flags or 0) & REPLAY_NEVER and row.key not in again:
        return current.soft or row.seq >= cut or is_part_of(row.key, again)
    return current.soft and row.seq < cut and not is_part_of(row.key, again)


def executes_again(current: Current, cut: float, stays: Collection[str], points: Mapping[str, Point]) -> bool:
    row = current.row
    return row.kind in "cwx" and row.seq >= cut and row.key not in stays and not is_inner(row.key, points)


def is_inner(key: str, outer: Collection[str]) -> bool:
    """Whether the call was made within a checkpoint's try."""
    return "/try" in key and key.partition("/try")[0] in outer


def first_again(current: Sequence[Current], cut: float, begin: Point | None, stays: Collection[str]) -> str | None:
    if begin is not None and begin.seq == cut and begin.key not in stays:
        return begin.key
    rows = (c.row for c in current if c.row.kind in "cwxnsl" and c.row.seq >= cut)
    return next((row.key for row in rows if row.key not in stays), None)


def checkpoints_in(overridden: Iterable[tuple[Point, Override]]) -> list[tuple[Point, Override]]:
    return [(point, override) for point, override in overridden if override.kind == "checkpoint"]


def as_given(point: Point, override: Override) -> Given:
    row = point.row
    place = row.place if row is not None else None
    if row is not None and row.kind == "d" and row.metadata:
        place = json.loads(row.metadata).get("place")
    recorded = row if row is not None and row.kind == "c" else None
    return Given(override, point.key, point.name, place, row.type if row is not None else None, recorded)


def refuse_twice(overridden: Sequence[tuple[Point, Override]]) -> None:
    said: dict[str, str] = {}
    for point, override in overridden:
        before = said.setdefault(point.key, override.written)
        if before != override.written:
            raise KitaruUsageError(f"{before} and {override.written} are both {point.key}", hint="give one of them")


# Selectors


def calls(known: Known, current: Sequence[Current]) -> dict[str, Point]:
    """Every call that may be named, by key; what is asked or runs without an outcome stands behind everything."""
    found: dict[str, Point] = {}
    for row in (c.row for c in current):
        key = row.key.removesuffix(GUARDED) if row.kind == "d" else row.key
        if row.kind in "ctwxnsl" or key != row.key:
            found[key] = Point(key, row.name or name_of(key), row.seq, row)
    for key in (*(wait.any_of or wait.key for wait in known.waits), *known.running):
        found.setdefault(key, Point(key, name_of(key), float("inf")))
    return found


def find_begin(known: Known, points: Mapping[str, Point], selector: str) -> Point | None:
    """The call that the replay begins at. None: the flow's own code failed, so all that is recorded is reused."""
    if selector != FAILED or selector in points:
        return find(known, points, selector, "cwxtnsld")
    if known.status != "failed":
        raise KitaruConflictError(
            f"execution {known.exec_id} is {known.status}: it has not failed",
            hint=f"--from KEY; its keys: kitaru executions get {known.exec_id}",
        )
    failed = [points[key] for key in (*known.failed, *known.running) if key in points]
    return min(failed, key=lambda point: point.seq) if failed else None


def find_overridden(known: Known, points: Mapping[str, Point], override: Override) -> Point:
    if override.kind == "checkpoint":
        return find(known, points, override.selector, "ctd", what="checkpoint")
    asked = {point.key: point for point in wait_points(known, points)}
    return find(known, asked, override.selector, "", what="wait")


def wait_points(known: Known, points: Mapping[str, Point]) -> Iterable[Point]:
    """The waits for input, each of a group by itself, at the place where the outcome is recorded."""
    for wait in known.waits:
        recorded = points[wait.any_of or wait.key]
        yield Point(wait.key, wait.name, recorded.seq)


def find(known: Known, points: Mapping[str, Point], selector: str, kinds: str, *, what: str = "call") -> Point:
    """The call of that key, else the only one of that name.

    Raises:
        KitaruNotFoundError, KitaruConflictError: none, or several.
    """
    there = {key: point for key, point in points.items() if point.row is None or point.row.kind in kinds}
    exact = there.get(selector)
    named = [point for point in there.values() if point.name == selector]
    if exact is not None or len(named) == 1:
        return exact or named[0]
    if named:
        raise KitaruConflictError(
            f"execution {known.exec_id} has {len(named)} calls of {selector}: {listed([it.key for it in named])}",
            hint="name one of them by its key",
        )
    # Of logs and noted values nobody thinks first; they are found by their keys all the same.
    keys = [key for key, it in there.items() if it.row is None or it.row.kind in "ctwx"] or list(there)
    near = nearest(selector, [*keys, *(point.name for point in there.values())])
    said = f"execution {known.exec_id} has no {what} {selector}; it has: {listed(keys)}"
    raise KitaruNotFoundError(said, hint=f"did you mean {near}?" if near else f"kitaru executions get {known.exec_id}")


def refuse_guarded(known: Known, begin: Point, given: Collection[str]) -> None:
    row = begin.row
    if row is None or row.kind != "c" or not (row.flags or 0) & REPLAY_NEVER or begin.key in given:
        return
    raise KitaruConflictError(
        f'checkpoint {begin.key} is guarded by replay="never": a replay never executes it',
        hint=f"give its outcome: --overrides '{{\"checkpoint.{begin.key}\": ...}}'; or begin at the call after it",
    )


def listed(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:KEYS_NAMED]) or "none"
    return f"{shown} and {len(keys) - KEYS_NAMED} more" if len(keys) > KEYS_NAMED else shown


def name_of(key: str) -> str:
    """`map[3]/fetch#2` is `fetch`."""
    return key.rpartition("/")[2].partition("#")[0]
