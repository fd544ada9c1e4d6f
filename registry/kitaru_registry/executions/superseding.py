"""What of a journal still counts, after retries and accepted divergences. Pure: rows in, rows out."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import bindparam, literal_column, select

from kitaru_registry.database.held import Held
from kitaru_registry.database.tables import journal
from kitaru_registry.executions.journal import Row
from kitaru_registry.journal.giving_up import says_given_up

KEPT = "!kept"
"""Ends the key of the entry which says that the flow came to a call whose outcome the replay had only kept."""

BY_SCOPE = 2
"""Of a retry which takes away the later outcomes of a failure's scope too. Earlier ones, of release 0.1, did not."""

ERRORS = select(journal.c.error).where(journal.c.execution == bindparam("execution"))
CHANGING = ERRORS.where(journal.c.kind.in_([literal_column("'r'"), literal_column("'a'")]))
FAILURES = ERRORS.where(
    journal.c.kind.in_([literal_column("'c'"), literal_column("'w'")]), journal.c.error.is_not(None)
)

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
            current = without(current, said)
        elif row.kind == "a":
            accepted[said["scope"]] = min(said["place"], accepted.get(said["scope"], said["place"]))
        current.append(Current(row, soft=row.seq in kept and row.kind not in "ra"))
    return without_overtaken(current), tuple(accepted.items())


def counts_whole(held: Held, execution: int) -> bool:
    """Whether every row of the journal counts as it is: of an execution that is no replay, without retries, accepted
    divergences and callers that gave up. Cheaper than to read the rows."""
    if held.first(CHANGING, execution) is not None:
        return False
    return not any(says_given_up(json.loads(error)) for (error,) in held.rows(FAILURES, execution))


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


def without(rows: Sequence[Current], said: Mapping[str, Any]) -> list[Current]:
    """What a retry leaves of these rows: all but the failures that it supersedes, and what was made because of them.

    With a failure go what belongs to it and the later outcomes of its own scope. A call that was given up because of
    it goes too, unless it had a value, which its caller did not get: that is used. Outcomes of other scopes stay.

    Args:
        said: by the retry: the keys that are `superseded`; `cut`, of calls whose branches ended by being cancelled; and
            by which `rules`.
    """
    undoing = Undoing(rows, said)
    if undoing.first is None:
        return list(rows)
    return [
        replace(c, soft=c.soft or undoing.softens(c.row))
        for c in rows
        if not undoing.takes(c.row)
    ]  # fmt: skip


class Undoing:
    """What one retry takes away."""

    def __init__(self, rows: Sequence[Current], said: Mapping[str, Any]) -> None:
        superseded = frozenset(said["superseded"])
        failures = [c.row for c in rows if is_superseded(c.row, superseded)]
        by_scope = said.get("rules", 1) >= BY_SCOPE
        timed_out = [row for row in failures if by_scope and is_cancellation(row)]
        expired = [timer for row in timed_out if (timer := timer_behind(row, rows)) is not None]
        if by_scope and not failures:
            expired = trailing(rows)
        self.first: int | None = min((row.seq for row in (*failures, *expired)), default=None)
        if self.first is None:
            return
        first = self.first
        cut = said.get("cut")
        given_up = [
            c.row for c in rows if c.row.seq > first and is_given_up(c.row) and (cut is None or c.row.key in cut)
        ]
        undone = {row.key: row.seq for row in given_up}
        unseen = [c.row for c in rows if is_failure(c.row) and c.row.seq < undone.get(c.row.key, 0)]
        self._given_up = {row.seq for row in (*given_up, *expired)}
        self._failed = superseded | {row.key for row in unseen}
        self._values = {c.row.key for c in rows if c.row.kind == "c" and c.row.error is None}
        ends = [row for row in (*failures, *unseen, *(given_up if cut is not None else ())) if row.kind != "x"]
        self._ends = ends_of_scopes(ends) if by_scope else {}
        self._later = {c.row.key for c in rows if c.row.kind in LATER and self.is_later(c.row)}
        self._began_us = min((row.ended_us for row in (*failures, *expired)), default=0)
        self._parallel = self._parallel_scopes(rows) if by_scope else set()

    def takes(self, row: Row) -> bool:
        """Whether the row counts no more."""
        if row.seq in self._given_up or row.key in self._later or is_part_of(row.key, self._later):
            return True
        if row.key in self._failed or is_part_of(row.key, self._failed):
            # What its caller never got is as good as before, and so is what belongs to it.
            return not (row.kind == "c" and row.error is None) and owner_of(row.key, self._failed) not in self._values
        return checkpoint_of(row) in self._failed

    def softens(self, row: Row) -> bool:
        """Whether it is used from now on where the flow makes the very same call, and passed over where it does not.

        A timer that was over is over again only where its branch was under way beside the failure: elsewhere it would
        cut off what has only begun.
        """
        assert self.first is not None
        if row.seq <= self.first or row.kind in "ra":
            return False
        return row.kind != "e" or scope_of(row.key) not in self._parallel

    def is_later(self, row: Row) -> bool:
        """Whether it was recorded behind a failure in the same scope, and not side by side with it."""
        end = self._ends.get(scope_of(row.key))
        if end is None or row.seq <= end.seq or row.seq in self._given_up:
            return False
        return row.started_us is None or row.started_us >= end.ended_us

    def _parallel_scopes(self, rows: Sequence[Current]) -> set[str]:
        """The scopes that had begun before the failure, and in which nobody can have heard of it."""
        assert self.first is not None
        begun = {
            scope_of(c.row.key)
            for c in rows
            if c.row.seq < self.first or (c.row.started_us or c.row.ended_us) < self._began_us
        }
        return {scope for scope in begun if not any(end.startswith(scope) for end in self._ends)}


LATER = "ctnslxe"
"""Kinds that go with an earlier failure of their scope. What somebody answered does not: it would be asked again."""


def later_stands(rows: Sequence[Current], said: Mapping[str, Any]) -> list[str]:
    """The keys of waits, sleeps and children's ends that came behind a superseded failure in its own scope."""
    undoing = Undoing(rows, said)
    return [c.row.key for c in rows if undoing.first is not None and c.row.kind == "w" and undoing.is_later(c.row)]


def is_superseded(row: Row, keys: Collection[str]) -> bool:
    """Whether the row is one of these failures; not the value of a call whose caller had given up."""
    return row.kind in FAILING and row.key in keys and (row.kind != "c" or row.error is not None)


def is_given_up(row: Row) -> bool:
    return row.kind in "cw" and is_cancellation(row)


def is_failure(row: Row) -> bool:
    return row.kind in "cw" and row.error is not None and not is_cancellation(row)


def timer_behind(given_up: Row, rows: Sequence[Current]) -> Row | None:
    """The flow's own timer by whose end the call was given up: the last thing that happened to whoever stood there."""
    own = scope_of(given_up.key)
    for row in (c.row for c in reversed(rows) if c.row.seq < given_up.seq):
        scope = scope_of(row.key)
        if not own.startswith(scope) or is_cancellation(row) or row.kind not in FAILING + "e":
            continue
        return row if row.kind == "e" and row.key.startswith(f"{scope}{TIMER}") else None
    return None


TIMER = "asyncio:timer"
"""What the calls of timers are named (kitaru_runner.engine.aio.timers)."""


def trailing(rows: Sequence[Current]) -> list[Row]:
    """Timers of the flow's own, and calls that were given up, behind which nothing was recorded: of a failure of the
    flow's own code they may be the cause, or came of it."""
    found = []
    for row in (c.row for c in reversed(rows)):
        if is_given_up(row) or (row.kind == "e" and row.key.rpartition("/")[2].startswith(TIMER)):
            found.append(row)
        elif row.kind not in "da":
            break
    return found


def ends_of_scopes(failures: Sequence[Row]) -> dict[str, Row]:
    """By scope, the first of these."""
    found: dict[str, Row] = {}
    for row in sorted(failures, key=lambda row: row.seq, reverse=True):
        found[scope_of(row.key)] = row
    return found


def scope_of(key: str) -> str:
    head, slash, _ = key.rpartition("/")
    return head + slash


def is_part_of(key: str, keys: Collection[str]) -> bool:
    """Whether it is one of these, or belongs to what one of these did."""
    return owner_of(key, keys) is not None


def owner_of(key: str, keys: Collection[str]) -> str | None:
    """That of the keys which this one is, or is a part of."""
    if key in keys:
        return key
    ends = (at for at, mark in enumerate(key) if mark in "/!")
    return next((key[:at] for at in ends if key[:at] in keys), None)


def checkpoint_of(row: Row) -> str | None:
    """The checkpoint whose failure this is: another's, where that kept this one from being called."""
    found: str | None = json.loads(row.error).get("checkpoint") if row.kind == "c" and row.error else None
    return found


def is_cancellation(row: Row) -> bool:
    return row.error is not None and says_given_up(json.loads(row.error))
