"""Artifacts: checkpoint outputs, answers, what was saved, and flows' results. Reads alone; the journal writes them.

An artifact's id is its execution's and, after a slash, its place there: the key of the call that gave it, `KEY:NAME` of
what a checkpoint saved. A second save of the same name in the same call is `KEY:NAME#2`. A flow's result has the
execution's own id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import islice
from typing import Any

from sqlalchemy import and_, exists, func, literal, null, or_, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement, Select

from kitaru_registry.clock import as_datetime, as_microseconds
from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import artifacts, executions, journal, waits
from kitaru_registry.database.types import json_number
from kitaru_registry.errors import (
    KitaruBackendError,
    KitaruConflictError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
)
from kitaru_registry.executions.reading import find_id, name_of, require_limit, require_values
from kitaru_registry.executions.superseding import KEPT
from kitaru_registry.executions.values import values_of
from kitaru_registry.journal.entries import DIGEST_CODEC
from kitaru_registry.models import Artifact, Digest, ExecutionId
from kitaru_registry.names import LONGEST_TEXT, check_text
from kitaru_registry.records.values import Values

OUTPUTS = ("c", "w")
"""Kinds of journal rows that are artifacts."""

NO_VALUE = b"null"
"""A wait that asked for a go-ahead, a sleep, the end of a child execution: nothing to keep."""

LISTED_NAMES = 20


@dataclass(frozen=True)
class Wanted:
    """What a search asks for."""

    project: str | None = None
    execution: int | None = None
    flow: str | None = None
    name: str | None = None
    kind: str | None = None
    type: str | None = None
    tag: str | None = None
    producing_call: str | None = None
    since: datetime | None = None
    digest: bytes | None = None
    data: bytes | None = None
    """Bytes that lie in the row; with `digest`, those of either."""


@dataclass(frozen=True)
class Found:
    """An artifact, and where its bytes are."""

    artifact: Artifact
    row: int
    """Of its execution."""
    key: str
    seq: int
    """Order within the execution, of those of one kind."""
    data: bytes | None
    value_digest: bytes | None

    @property
    def is_saved(self) -> bool:
        return self.artifact.kind == "manual"


def search(database: Database, wanted: Wanted, *, limit: int | None = None) -> list[Artifact]:
    """Newest first."""
    with database.read() as connection:
        return [found.artifact for found in find(connection, values_of(database), wanted, limit=limit)]


def in_order(database: Database, wanted: Wanted, *, limit: int | None = None) -> list[Artifact]:
    """Those of one execution, in recorded order."""
    require_limit(limit)
    with database.read() as connection:
        found = find(connection, values_of(database), wanted, limit=None)
    return [item.artifact for item in recorded(found)][:limit]


def recorded(found: Iterable[Found]) -> list[Found]:
    """In recorded order: an outcome before what was saved on the way to it, the result last."""
    return sorted(found, key=lambda f: (f.artifact.kind == "result", f.artifact.created_at, f.is_saved, f.seq))


def find(connection: Connection, store: Values, wanted: Wanted, *, limit: int | None = None) -> list[Found]:
    """Newest first."""
    require_limit(limit)
    found: list[Found] = []
    for statement in (outputs(wanted), saves(wanted), results(wanted)):
        if statement is None:
            continue
        columns = statement.selected_columns
        rows = connection.execute(statement.order_by(columns.at_us.desc(), columns.seq.desc()))
        made = (as_found(row, store) for row in rows)
        found += islice((f for f in made if wanted.name in (None, f.artifact.name, f.key)), limit)
    found.sort(key=lambda f: (f.artifact.created_at, f.is_saved, f.seq), reverse=True)
    return found[:limit]


def get(database: Database, artifact_id: str) -> Artifact:
    """
    Raises:
        KitaruNotFoundError: there is none of that id; or its execution's values were deleted.
    """
    return get_found(database, artifact_id).artifact


def read(database: Database, artifact_id: str) -> tuple[Artifact, bytes]:
    """The artifact and its verified bytes.

    Raises:
        KitaruNotFoundError: as `get`.
        KitaruStateError: only its digest was kept.
    """
    found = get_found(database, artifact_id)
    return found.artifact, bytes_of(database, found)


def get_found(database: Database, artifact_id: str) -> Found:
    given, _, place = check_text("the id of an artifact", artifact_id, most=LONGEST_TEXT).partition("/")
    exec_id = find_id(database, given)
    with database.read() as connection:
        row = require_values(connection, exec_id)
        found = at_place(connection, values_of(database), row, place)
    if found is None:
        raise KitaruNotFoundError(
            f"execution {exec_id} has no artifact {place}" if place else f"execution {exec_id} has no result",
            hint=f"kitaru artifacts list {exec_id}",
        )
    return found


def at_place(connection: Connection, store: Values, row: int, place: str) -> Found | None:
    """The artifact whose id ends so, in the execution of that row."""
    if not place:
        fitting = find(connection, store, Wanted(execution=row, kind="result"))
    else:
        fitting = find(connection, store, Wanted(execution=row, producing_call=place))
        fitting += [
            found
            for cut in (i for i, letter in enumerate(place) if letter == ":")
            for found in find(connection, store, Wanted(execution=row, producing_call=place[:cut]))
        ]
    ending = f"/{place}" if place else ""
    return next((f for f in fitting if f.artifact.artifact_id == f"{f.artifact.exec_id}{ending}"), None)


def pick(database: Database, exec_id: str, name: str, *, index: int | None = None) -> tuple[Artifact, bytes]:
    """The one artifact of an execution that `load` means: saved under that name; else the output of the checkpoint of
    that key, or of that name.

    Args:
        index: which of several, in recorded order; negative ones count from the last.

    Raises:
        KitaruUsageError: the index is no number, or the name no text.
        KitaruNotFoundError: there is none; what there is, is named.
        KitaruConflictError: several fit.
        KitaruStateError: only its digest was kept.
    """
    check_text("the name of an artifact", name)
    if index is not None and not isinstance(index, int):
        raise KitaruUsageError(f"load(index={index!r}) is no number", hint="index=0 is the first, index=-1 the last")
    with database.read() as connection:
        store = values_of(database)
        row = require_values(connection, exec_id)
        found = find(connection, store, Wanted(execution=row, name=name, kind="manual"))
        placed = at_place(connection, store, row, name) if not found and is_place(name) else None
        found = found or ([placed] if placed else [])
        found = found or [f for f in find(connection, store, Wanted(execution=row, name=name)) if f.key]
        names = [] if found else names_in(connection, store, row)
    found.sort(key=lambda f: f.seq)
    chosen = choose(exec_id, name, found, index, names)
    return chosen.artifact, bytes_of(database, chosen)


def is_place(name: str) -> bool:
    """Whether it says more than a name: a key within a scope, or of a second call, or what a call saved."""
    return any(mark in name for mark in "/#:")


def choose(exec_id: str, name: str, found: Sequence[Found], index: int | None, names: Sequence[str]) -> Found:
    if not found:
        listed = ", ".join(names[:LISTED_NAMES]) + (", ..." if len(names) > LISTED_NAMES else "")
        raise KitaruNotFoundError(
            f"execution {exec_id} has no artifact {name}; it has: {listed or 'none'}",
            hint=f"kitaru artifacts list {exec_id}",
        )
    if index is None and len(found) > 1:
        places = [f.artifact.artifact_id.partition("/")[2] for f in found]
        listed = ", ".join(places[:LISTED_NAMES]) + (", ..." if len(places) > LISTED_NAMES else "")
        raise KitaruConflictError(
            f"execution {exec_id} has {len(found)} artifacts that fit {name}: {listed}",
            hint=f"say which: index=0 to index={len(found) - 1}, or index=-1 for the last",
        )
    try:
        return found[index or 0]
    except IndexError:
        raise KitaruNotFoundError(
            f"execution {exec_id} has {len(found)} artifacts that fit {name}, and none of index {index}",
            hint=f"index=0 to index={len(found) - 1}, or index=-1 for the last",
        ) from None


def names_in(connection: Connection, store: Values, row: int) -> list[str]:
    return sorted(
        {f.artifact.name if f.is_saved else f.key for f in find(connection, store, Wanted(execution=row)) if f.key}
    )


def bytes_of(database: Database, found: Found) -> bytes:
    if not found.artifact.is_kept:
        raise KitaruStateError(
            f'the value of {found.artifact.artifact_id} was not kept, only its digest: record="digest"',
            hint=f"kitaru artifacts show {found.artifact.artifact_id}",
        )
    if found.data is not None:
        return found.data
    assert found.value_digest is not None
    return values_of(database).get(found.value_digest)


# The three places that artifacts are in, as statements of the same columns


def outputs(wanted: Wanted) -> Select[Any] | None:
    """Of checkpoints and waits."""
    kinds = {None: OUTPUTS, "step_output": ("c",), "answer": ("w",)}.get(wanted.kind)
    types = {None: OUTPUTS, "output": ("c",), "input": ("w",)}.get(wanted.type)
    both = set(kinds or ()) & set(types or ())
    if not both or wanted.tag is not None:
        return None
    later = journal.alias()
    superseded = exists(
        select(later.c.seq).where(
            later.c.execution == journal.c.execution,
            later.c.key == journal.c.key,
            later.c.kind.in_(OUTPUTS),
            later.c.seq > journal.c.seq,
        )
    )
    # What a child execution gave is the child's result.
    of_child = exists(
        select(waits.c.key).where(
            waits.c.execution == journal.c.execution, waits.c.key == journal.c.key, waits.c.kind == "child"
        )
    )
    statement = (
        select(
            *EXECUTION,
            journal.c.key,
            journal.c.name,
            journal.c.kind,
            null().label("type"),
            null().label("tags"),
            journal.c.codec,
            journal.c.data,
            journal.c.value_digest,
            journal.c.ended_us.label("at_us"),
            journal.c.metadata,
            journal.c.seq,
            literal(1).label("ordinal"),
        )
        .join(executions, executions.c.id == journal.c.execution)
        .where(
            journal.c.kind.in_(both),
            journal.c.codec.is_not(None),
            or_(journal.c.kind == "c", and_(func.coalesce(journal.c.data, b"") != NO_VALUE, ~of_child)),
            or_(executions.c.retries_used == 0, ~superseded),
            ~is_unused(journal),
        )
    )
    if wanted.name is not None:
        statement = statement.where(has_name(wanted.name))
    return narrowed(statement, wanted, journal.c.key, journal.c.ended_us, journal.c.value_digest, journal.c.data)


def is_unused(outcome: Any) -> ColumnElement[bool]:
    """Whether a replay only kept that row's outcome, and the flow has not come to its call."""
    used = journal.alias()
    return and_(
        executions.c.replay.is_not(None),
        outcome.c.kind == "c",
        outcome.c.seq > json_number(executions.c.replay, "reused"),
        outcome.c.seq <= json_number(executions.c.replay, "copied"),
        ~exists(
            select(used.c.seq).where(
                used.c.execution == outcome.c.execution, used.c.key == outcome.c.key.concat(KEPT), used.c.kind == "d"
            )
        ),
    )


def has_name(name: str) -> ColumnElement[bool]:
    """What its name can be read from: of a key, the last part without its number."""
    escaped = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    patterns = (f"%/{escaped}", f"{escaped}#%", f"%/{escaped}#%")
    key = journal.c.key
    return or_(journal.c.name == name, key == name, *(key.like(pattern, escape="\\") for pattern in patterns))


def saves(wanted: Wanted) -> Select[Any] | None:
    if wanted.kind not in (None, "manual"):
        return None
    earlier = artifacts.alias()
    ordinal = (
        select(func.count())
        .where(
            earlier.c.execution == artifacts.c.execution,
            earlier.c.name == artifacts.c.name,
            earlier.c.key == artifacts.c.key,
            earlier.c.id <= artifacts.c.id,
        )
        .scalar_subquery()
    )
    redone = exists(
        select(journal.c.seq).where(
            journal.c.execution == artifacts.c.execution,
            journal.c.key == artifacts.c.key,
            journal.c.kind == "c",
            journal.c.ended_us > artifacts.c.at_us,
        )
    )
    outcome = journal.alias()
    of_unused = exists(
        select(outcome.c.seq).where(
            outcome.c.execution == artifacts.c.execution, outcome.c.key == artifacts.c.key, is_unused(outcome)
        )
    )
    statement = (
        select(
            *EXECUTION,
            artifacts.c.key,
            artifacts.c.name,
            literal("s").label("kind"),
            artifacts.c.type,
            artifacts.c.tags,
            artifacts.c.codec,
            artifacts.c.data,
            artifacts.c.value_digest,
            artifacts.c.at_us,
            null().label("metadata"),
            artifacts.c.id.label("seq"),
            ordinal.label("ordinal"),
        )
        .join(executions, executions.c.id == artifacts.c.execution)
        .where(or_(executions.c.retries_used == 0, ~redone), ~of_unused)
    )
    for column, value in ((artifacts.c.name, wanted.name), (artifacts.c.type, wanted.type)):
        if value is not None:
            statement = statement.where(column == value)
    if wanted.tag is not None:
        each = func.json_each(artifacts.c.tags).table_valued("value")
        statement = statement.where(exists(select(each.c.value).where(each.c.value == wanted.tag)))
    return narrowed(statement, wanted, artifacts.c.key, artifacts.c.at_us, artifacts.c.value_digest, artifacts.c.data)


def results(wanted: Wanted) -> Select[Any] | None:
    other = (
        wanted.kind not in (None, "result"),
        wanted.type not in (None, "output"),
        wanted.tag,
        wanted.producing_call,
    )
    if any(other) or wanted.name not in (None, "result"):
        return None
    statement = select(
        *EXECUTION,
        literal("").label("key"),
        literal("result").label("name"),
        literal("result").label("kind"),
        null().label("type"),
        null().label("tags"),
        executions.c.result_codec.label("codec"),
        executions.c.result_data.label("data"),
        executions.c.result_digest.label("value_digest"),
        executions.c.ended_us.label("at_us"),
        null().label("metadata"),
        executions.c.id.label("seq"),
        literal(1).label("ordinal"),
    ).where(executions.c.result_codec.is_not(None), func.coalesce(executions.c.result_data, b"") != NO_VALUE)
    at, digest, data = executions.c.ended_us, executions.c.result_digest, executions.c.result_data
    return narrowed(statement, wanted, executions.c.exec_id, at, digest, data)


EXECUTION = (executions.c.id, executions.c.exec_id, executions.c.flow, executions.c.version)


def narrowed(
    statement: Select[Any], wanted: Wanted, key: Any, at_us: Any, value_digest: Any, data: Any
) -> Select[Any]:  # fmt: skip
    """What every kind is asked alike."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.project is not None:
        conditions.append(executions.c.project == wanted.project)
    if wanted.execution is not None:
        conditions.append(executions.c.id == wanted.execution)
    if wanted.flow is not None:
        conditions.append(executions.c.flow == wanted.flow)
    if wanted.producing_call is not None:
        conditions.append(key == wanted.producing_call)
    if wanted.since is not None:
        conditions.append(at_us >= as_microseconds(wanted.since))
    if wanted.digest is not None:
        same_row = [data == wanted.data] if wanted.data is not None else []
        conditions.append(or_(value_digest == wanted.digest, *same_row))
    return statement.where(and_(True, *conditions))


# Rows as artifacts

KINDS = {"c": "step_output", "w": "answer", "s": "manual", "result": "result"}
TYPES = {"c": "output", "w": "input", "result": "output"}


def as_found(row: Any, store: Values) -> Found:
    is_kept = row.codec != DIGEST_CODEC
    digest = row.value_digest if row.value_digest is not None else row.data
    if is_kept and row.value_digest is None:
        digest = sha256(row.data).digest()
    name = row.name or name_of(row.key)
    in_body = row.kind == "s" and is_body_save(row.key, row.name)
    artifact = Artifact.model_construct(
        artifact_id=id_of(row.exec_id, row.key, name, row.ordinal, is_save=row.kind == "s" and not in_body),
        exec_id=ExecutionId(row.exec_id),
        flow=row.flow,
        version=row.version,
        name=name,
        kind=KINDS[row.kind],
        type=row.type or TYPES[row.kind],
        tags=tuple(json.loads(row.tags) if isinstance(row.tags, str) else row.tags or ()),
        codec=row.codec,
        digest=Digest(f"sha256:{digest.hex()}"),
        size=size_of(row, store) if is_kept else None,
        is_kept=is_kept,
        producing_call=row.key if row.key and not in_body else None,
        created_at=as_datetime(row.at_us),
        metadata=json.loads(row.metadata) if row.metadata and row.kind == "c" else {},
    )
    return Found(artifact, row.id, row.key, row.seq, row.data, row.value_digest)


def size_of(row: Any, store: Values) -> int | None:
    if row.data is not None:
        return len(row.data)
    try:
        return store.size(row.value_digest)
    except KitaruBackendError:
        return None


def is_body_save(key: str, name: str) -> bool:
    """Whether that key is a save's own, in the flow's body."""
    scope, own, ordinal = key.rpartition(f"save:{name}")
    return bool(own) and scope[-1:] in ("", "/") and (not ordinal or (ordinal[0] == "#" and ordinal[1:].isdigit()))


def id_of(exec_id: str, key: str, name: str, ordinal: int, *, is_save: bool) -> str:
    if not key:
        return exec_id
    saved = f":{name}" + (f"#{ordinal}" if ordinal > 1 else "") if is_save else ""
    return f"{exec_id}/{key}{saved}"
