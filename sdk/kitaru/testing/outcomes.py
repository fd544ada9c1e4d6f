"""What a test sees of an execution that has ended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from kitaru.handle import failure_of
from kitaru_registry.database.opening import Database
from kitaru_registry.executions import queue, reading, waits
from kitaru_registry.executions.journal import ATTEMPTS, Row, read_rows
from kitaru_registry.executions.values import values_of
from kitaru_registry.journal.entries import DIGEST_CODEC, Encoded
from kitaru_registry.models import Execution, ExecutionId, Wait
from kitaru_registry.records.values import Values
from kitaru_runner.values import codec
from kitaru_runner.values.failures import rebuild

KINDS = {
    "c": "checkpoint", "t": "failed try", "w": "wait", "s": "save", "l": "log", "d": "warning", "x": "child",
    "r": "retry", "n": "noted", "a": "accepted", "e": "ended",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a journal."""

    kind: str
    """`checkpoint`, `failed try`, `wait` (a sleep too), `child`, `noted` (now, random, uuid4), `save`, `log`,
    `retry` (of the flow), `warning`, `accepted`, `ended` (a timer of the flow's own, or a thread that came back)."""
    key: str
    attempt: int
    """Which attempt recorded it; the first is 1."""
    tries: int = 1
    value: Any = None
    """Of a child: its exec_id. None where the value is not kept, or is a failure."""
    error: BaseException | None = field(default=None, compare=False)

    def __str__(self) -> str:
        said = repr(self.error) if self.error is not None else repr(self.value)
        return f"{self.kind} {self.key} = {said} (attempt {self.attempt})"


@dataclass(frozen=True)
class Outcome:
    """How an execution ended, and what it did on the way."""

    exec_id: str
    flow: str
    status: str
    """`completed`, `failed` or `cancelled`."""
    journal: tuple[Entry, ...] = field(repr=False)
    """In recorded order."""
    waits: tuple[Wait, ...] = field(repr=False)
    """What was asked, in the order of asking: key, name, question, metadata, status, answer."""
    calls: Counter[str]
    """How often the function of each checkpoint was executed, by its name, in all attempts and tries, and children."""
    attempts: int
    crashes: int
    """How many attempts ended by a crash."""
    writes: tuple[int, ...] = field(repr=False)
    """Of each attempt: how many writes it made."""
    took: timedelta
    """From beginning to end, by the test's clock."""
    warnings: tuple[str, ...]
    """What a replay found amiss: a checkpoint that got other arguments than in the attempt that recorded it."""
    _value: Any
    _ended: Execution = field(repr=False)
    _error: BaseException | None
    _recorded: tuple[str, bytes] | None = field(repr=False)

    @property
    def result(self) -> Any:
        """What the flow returned.

        Raises:
            KitaruUserCodeError: it raised; its exception is the cause.
            KitaruExecutionError: it ended otherwise.
        """
        if self.status != "completed":
            raise failure_of(self._ended) from self._error
        return self._value

    @property
    def error(self) -> BaseException | None:
        """What the flow raised, in its own class where that can be had; None: it completed."""
        return self._error

    @property
    def keys(self) -> list[str]:
        """Of everything in the journal, in recorded order."""
        return [entry.key for entry in self.journal]

    def ended_as(self, other: Outcome) -> bool:
        """Whether both returned the same, or raised the same."""
        if self.status != other.status:
            return False
        if self.status != "completed":
            return repr(self._error) == repr(other._error)
        return self._recorded == other._recorded or same(self._value, other._value)

    def said(self) -> str:
        """The end in a few words."""
        return f"returned {self._value!r}" if self.status == "completed" else f"{self.status}: {self._error!r}"


def same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # such as an array, which is neither
        return False


def entries_of(database: Database, exec_id: ExecutionId) -> tuple[Entry, ...]:
    store = values_of(database)
    execution = queue.candidate(database, exec_id).row
    with database.holding() as connection:
        rows = list(read_rows(connection, execution))
        attempts = list(connection.rows(ATTEMPTS, execution))
        return tuple(entry_of(row, attempt, store) for row, (attempt,) in zip(rows, attempts, strict=True))


def entry_of(row: Row, attempt: int, store: Values) -> Entry:
    error = rebuild(json.loads(row.error)) if row.error is not None else None
    return Entry(KINDS[row.kind], row.key, attempt, row.tries or 1, value_of(row, store), error)


def value_of(row: Row, store: Values) -> Any:
    if row.value is None:
        return json.loads(row.metadata) if row.metadata else None
    if row.value.codec == DIGEST_CODEC:
        return None
    data = row.value.data if row.value.data is not None else store.get(row.value.digest or b"")
    return codec.decode(Encoded(row.value.codec, data))


def warnings_of(journal: tuple[Entry, ...]) -> tuple[str, ...]:
    said = (entry.value for entry in journal if entry.kind == "warning")
    return tuple(str(value["warning"]) for value in said if "warning" in value)


def error_of(ended: Execution, error: Mapping[str, Any] | None) -> BaseException:
    """What the flow raised; where it did not, such as after too many crashes, how it ended."""
    return rebuild(error) if error is not None and "class" in error else failure_of(ended)


def read_outcome(
    database: Database, exec_id: ExecutionId, *, calls: Counter[str], crashes: int, writes: tuple[int, ...],
    took: timedelta,
) -> Outcome:  # fmt: skip
    ended = reading.get_execution(database, exec_id)
    completed = ended.status == "completed"
    recorded = reading.result_bytes(database, exec_id) if completed else None
    journal = entries_of(database, exec_id)
    asked = waits.list_waits(database, exec_id=exec_id, pending_only=False)
    return Outcome(
        exec_id=exec_id, flow=ended.flow, status=ended.status, journal=journal,
        waits=tuple(sorted(asked, key=lambda wait: (wait.entered_at, wait.key))), calls=calls, attempts=len(writes),
        crashes=crashes, writes=writes, took=took, warnings=warnings_of(journal),
        _value=codec.decode(Encoded(*recorded)) if recorded is not None else None, _ended=ended,
        _error=None if completed else error_of(ended, reading.recorded_error(database, exec_id)), _recorded=recorded,
    )  # fmt: skip
