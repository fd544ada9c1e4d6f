"""What a retry must execute again, and what it must not: by a program's tree, whatever the journal's rules say.

A failure that the flow's own code has caught, or taken as a value, is consumed. Unconsumed are those that the exception
which ended the flow is, or was raised beside, and those that nobody looked at. `models.py` raises as the flow does, so
Python itself says what was raised beside what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bodies import Seen

from kitaru_registry.executions.journal import Row
from kitaru_registry.executions.superseding import Current, current_rows

RETRIED = "r"


@dataclass
class Epoch:
    """The attempts between two retries."""

    rows: list[Current]
    """What counts at its end."""
    written: list[Row]
    """What was recorded in it."""
    seen: list[Seen] = field(default_factory=list)
    rows_before: list[int] = field(default_factory=list)
    """When each attempt began."""

    @property
    def executed(self) -> dict[tuple[str, int], int]:
        """For which value each try ran."""
        return {slot: value for seen in self.seen for slot, value in seen.given.items()}

    @property
    def races(self) -> dict[str, Any]:
        return {place: value for seen in self.seen for place, value in seen.races.items()}


def epochs_of(rows: Sequence[Row], seen: Sequence[Seen], rows_before: Sequence[int]) -> list[Epoch]:
    ends = [number for number, row in enumerate(rows) if row.kind == RETRIED] + [len(rows)]
    found = []
    begins_at = 0
    for end in ends:
        counting = [c for c in current_rows(rows[:end])[0] if c.row.kind != RETRIED]
        found.append(Epoch(counting, list(rows[begins_at:end])))
        begins_at = end
    for each, before in zip(seen, rows_before, strict=True):
        of = sum(row.kind == RETRIED for row in rows[:before])
        found[of].seen.append(each)
        found[of].rows_before.append(before)
    return found


def check_again(
    before: Epoch, after: Epoch, executed: Mapping[tuple[str, int], int], *, unconsumed: set[str],
    reached: Mapping[str, bool],
) -> None:  # fmt: skip
    """
    Args:
        executed: in all epochs before: for which value each try ran last.
        unconsumed: keys of the checkpoints that are to be executed again.
        reached: by the key of each checkpoint that the flow has called since: whether it must have ended.
    """
    had = {c.row.key: c.row for c in before.rows if c.row.kind == "c"}
    again = {key for key, _ in after.executed}
    for key in sorted(unconsumed & had.keys() & reached.keys()):
        assert key in again or not reached[key] or had[key].error is None, f"not executed again: {key}"
    behind = [scope_of(key) for key in unconsumed]
    for (key, tried), value in after.executed.items():
        # Where a line may have been cancelled, nobody need have looked at what became of it.
        if key not in had or (key, tried) not in executed or is_given_up(had[key]) or not reached.get(key):
            continue
        meant = key in unconsumed or any(is_part_of_scope(key, scope) for scope in behind)
        same = executed[key, tried] == value
        assert meant or not same, f"executed again, and had an outcome that the flow consumed: {key}"


def is_given_up(row: Row) -> bool:
    return row.error is not None and '"CancelledError"' in row.error


def scope_of(key: str) -> str:
    head, slash, _ = key.rpartition("/")
    return head + slash


def is_part_of_scope(key: str, scope: str) -> bool:
    """Whether it is a call in that scope itself, or within such a call; not one beside it in a task or thread."""
    return key.startswith(scope) and "[" not in key[len(scope) :].partition("/")[0]
