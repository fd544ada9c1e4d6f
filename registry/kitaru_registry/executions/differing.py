"""Two executions side by side: what each recorded under the same keys. Runs nobody's code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from kitaru_registry.executions.journal import Row, Value
from kitaru_registry.executions.planned import KINDS, seconds_of, summed, usage_of
from kitaru_registry.executions.replaying import Known, is_inner
from kitaru_registry.executions.superseding import current_rows, without_unused
from kitaru_registry.executions.views import CallDifference, ExecutionDiff, Side, ValueView
from kitaru_registry.journal.display import as_json
from kitaru_registry.journal.entries import DIGEST_CODEC
from kitaru_registry.models import ExecutionId

SHOWN_BYTES = 16_384
"""A value above this is shown by its size and digest. What a model answers is mostly below it."""

Read = Callable[[Value], bytes]


@dataclass(frozen=True)
class Recorded:
    """One side: its row of the table of executions, and its calls by key."""

    row: Any
    calls: Mapping[str, Row]

    @property
    def result(self) -> Value | None:
        row = self.row
        return Value(row.result_codec, row.result_data, row.result_digest) if row.result_codec else None


def recorded(row: Any, known: Known) -> Recorded:
    current, _ = current_rows(known.rows, known.replay)
    calls = {c.row.key: c.row for c in without_unused(current, known.replay) if c.row.kind in KINDS}
    return Recorded(row, {key: call for key, call in calls.items() if not is_inner(key, calls)})


def difference(a: Recorded, b: Recorded, read: Read, *, code: Sequence[str] = ()) -> ExecutionDiff:
    """
    Args:
        read: the verified bytes of a value.
        code: what differs between the code of the two, in words.
    """
    inputs = {name: (a.row.inputs.get(name), b.row.inputs.get(name)) for name in {**a.row.inputs, **b.row.inputs}}
    same_result = digest_of(a.result) == digest_of(b.result)
    return ExecutionDiff(
        a=side(a),
        b=side(b),
        inputs={name: both for name, both in inputs.items() if both[0] != both[1]},
        result=None if same_result else (view(a.result, read), view(b.result, read)),
        calls=tuple(compared(a.calls.get(key), b.calls.get(key), read) for key in in_order(a.calls, b.calls)),
        code=tuple(code),
    )


def in_order(a: Mapping[str, Row], b: Mapping[str, Row]) -> Iterator[str]:
    """The keys of both: as the second has them, each that only the first has behind the one that it followed there."""
    removed: dict[str | None, list[str]] = {}
    before: str | None = None
    for key in a:
        if key in b:
            before = key
        else:
            removed.setdefault(before, []).append(key)
    yield from removed.get(None, ())
    for key in b:
        yield key
        yield from removed.get(key, ())


def compared(a: Row | None, b: Row | None, read: Read) -> CallDifference:
    one = b or a
    assert one is not None
    what = tuple(differing(a, b)) if a is not None and b is not None else ()
    change = "removed" if b is None else "added" if a is None else "changed" if what else "same"
    shows = change != "same" and one.kind != "x"
    return CallDifference(
        key=one.key,
        kind=KINDS[one.kind],
        change=change,
        what=what,
        a=view(a.value, read) if a is not None and shows else None,
        b=view(b.value, read) if b is not None and shows else None,
        a_error=error_of(a.error) if a is not None else None,
        b_error=error_of(b.error) if b is not None else None,
        a_seconds=seconds_of(a) if a is not None else None,
        b_seconds=seconds_of(b) if b is not None else None,
    )


def differing(a: Row, b: Row) -> Iterator[str]:
    """`value`, `inputs`, `error`. A child execution's id differs always, and says nothing."""
    if a.kind != b.kind:
        yield "kind"
    if a.kind != "x" and digest_of(a.value) != digest_of(b.value):
        yield "value"
    if a.inputs is not None and b.inputs is not None and a.inputs[:16] != b.inputs[:16]:
        yield "inputs"
    if error_of(a.error) != error_of(b.error):
        yield "error"


def digest_of(value: Value | None) -> tuple[str, bytes] | None:
    if value is None:
        return None
    return value.codec, value.digest if value.data is None else sha256(value.data).digest()  # type: ignore[return-value]  # one of the two is there


def view(value: Value | None, read: Read) -> ValueView | None:
    if value is None:
        return None
    data = read(value)
    if value.codec == DIGEST_CODEC:
        return ValueView(type=value.codec, digest=f"sha256:{data.hex()}")
    shown = as_json(value.codec, data) if len(data) <= SHOWN_BYTES else None
    return ValueView(type=value.codec, value=shown, bytes=len(data), digest=f"sha256:{sha256(data).hexdigest()}")


def error_of(error: str | Mapping[str, Any] | None) -> str | None:
    if not error:
        return None
    said = json.loads(error) if isinstance(error, str) else error
    return f"{said['type']}: {said['message']}"


def side(of: Recorded) -> Side:
    row = of.row
    ended = row.started_us is not None and row.ended_us is not None
    copied = row.replay["copied"] if row.replay else 0
    return Side(
        exec_id=ExecutionId(row.exec_id),
        flow=row.flow,
        version=f"v{row.version}" if row.version is not None else "source",
        status=row.status,
        seconds=(row.ended_us - row.started_us) / 1_000_000 if ended else None,
        error=error_of(row.error),
        calls=len(of.calls),
        usage=summed(usage_of(call.metadata) for call in of.calls.values() if call.seq > copied),
    )
