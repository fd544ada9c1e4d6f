"""Executions before they run: what one is made of, and how it comes to be, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from kitaru_registry.clock import now_us
from kitaru_registry.database.opening import Database, tell_runners
from kitaru_registry.database.tables import executions, input_parts, versions
from kitaru_registry.errors import KitaruConflictError, KitaruNotFoundError, KitaruUsageError
from kitaru_registry.executions.inputs import keep
from kitaru_registry.executions.values import values_of
from kitaru_registry.models import ExecutionId
from kitaru_registry.names import check_text
from kitaru_registry.records.values import Values


@dataclass(frozen=True)
class NewExecution:
    exec_id: ExecutionId
    project: str
    flow: str
    kind: str
    inputs: Mapping[str, Any]
    """As JSON, to show and to filter by."""
    inputs_codec: str
    inputs_data: bytes
    input_digest: str
    actor: str
    version: int | None = None
    digest: str | None = None
    tag: str | None = None
    version_row: int | None = None
    idempotency_key: str | None = None
    needs: Mapping[str, Any] | None = None
    """What a runner must offer: `{"python": "3.11", "platform": "linux-x86_64", "protocol": 1}`."""
    source: Mapping[str, Any] | None = None
    entrypoint: str | None = None
    """A flow of the snapshot that is not its own."""
    parent: int | None = None
    """Row of the execution that started this one, in the call `parent_key`."""
    parent_key: str | None = None
    retries: int = 0
    cache: bool | None = None
    finish_seconds: float | None = None
    replay: Mapping[str, Any] | None = None
    parts: tuple[bytes, ...] = ()
    """Digests of the files that hold parts of the inputs."""

    def stored(self, values: Values) -> NewExecution:
        """The same; large parts of its inputs are on disk when this returns. To be called while `naming`."""
        kept = None if self.parts else keep(values, self.inputs_codec, self.inputs_data, self.inputs)
        return self if kept is None else replace(self, inputs=kept.shown, inputs_data=kept.data, parts=kept.digests)

    def __post_init__(self) -> None:
        if self.idempotency_key is not None:
            check_key(self.idempotency_key)

    def columns(self) -> dict[str, Any]:
        """The row of a pending execution."""
        values = {name: value for name, value in vars(self).items() if name not in ("version_row", "parts")}
        values["inputs_in_parts"] = bool(self.parts)
        counts = dict.fromkeys(("attempt", "fruitless_attempts", "attempt_start_seq", "not_before_us"), 0)
        return {**values, **counts, "status": "pending", "created_us": now_us()}


def check_key(given: str) -> None:
    """
    Raises:
        KitaruUsageError: it names no call. With an empty one, as an unset variable gives it, all would be the first.
    """
    if not check_text("an idempotency key", given).strip():
        raise KitaruUsageError(
            f"the idempotency key {given!r} is empty",
            hint="give a text that names this one call, or no key; an unset variable of a shell gives an empty text",
        )


def create(database: Database, new: NewExecution) -> tuple[ExecutionId, bool]:
    """The execution's id, and whether it is new: an idempotency key gives the first one of its flow.

    Raises:
        KitaruConflictError: the key was used with other inputs.
        KitaruNotFoundError: the version was deleted meanwhile.
    """
    values = values_of(database)
    with values.naming():
        stored = new.stored(values)
        with database.write(flow=f"{stored.project}/{stored.flow}") as connection:
            return create_on(connection, stored)


def create_on(connection: Connection, new: NewExecution) -> tuple[ExecutionId, bool]:
    """`create`, in a transaction of the caller's; large parts of the inputs are on disk."""
    if new.idempotency_key is not None and (found := find_by_key(connection, new)):
        return ExecutionId(found.exec_id), False
    if new.version_row is not None:
        gone = select(versions.c.deleted_us).where(versions.c.id == new.version_row)
        if connection.execute(gone).scalar_one() is not None:
            raise KitaruNotFoundError(
                f"v{new.version} of {new.flow} was deleted", hint=f"kitaru versions list {new.flow}"
            )
    row = connection.execute(executions.insert().values(**new.columns())).inserted_primary_key
    if new.parts and row is not None:
        named = [{"digest": digest, "execution": row[0]} for digest in new.parts]
        connection.execute(input_parts.insert(), named)
    tell_runners(connection)
    return new.exec_id, True


def find_by_key(connection: Connection, new: NewExecution) -> Any | None:
    found = connection.execute(
        select(executions.c.exec_id, executions.c.input_digest).where(
            executions.c.project == new.project,
            executions.c.flow == new.flow,
            executions.c.idempotency_key == new.idempotency_key,
        )
    ).one_or_none()
    if found is not None and found.input_digest != new.input_digest:
        raise KitaruConflictError(
            f"the idempotency key {new.idempotency_key!r} was used for {new.flow} with other inputs: {found.exec_id}",
            hint=f"kitaru executions get {found.exec_id}",
        )
    return found
