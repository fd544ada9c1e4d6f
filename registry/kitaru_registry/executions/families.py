"""Executions of deployed versions, and those that another execution starts: its children."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from kitaru_registry.canonical import json_digest, sha256_of
from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import executions, waits
from kitaru_registry.deployments.finding import resolve_on
from kitaru_registry.deployments.refs import FlowRef
from kitaru_registry.executions.creating import NewExecution
from kitaru_registry.executions.ending import FAULT
from kitaru_registry.executions.ids import new_execution_id
from kitaru_registry.journal.display import as_json
from kitaru_registry.models import ExecutionId
from kitaru_registry.records.states import ENDED, OPEN


@dataclass(frozen=True)
class Parent:
    """Which call of which execution starts a child."""

    row: int
    key: str


def invocation(
    database: Database, ref: FlowRef, inputs: dict[str, Any], *, project: str, actor: str,
    idempotency_key: str | None = None, parent: Parent | None = None, only_set: Mapping[str, Any] | None = None,
) -> NewExecution:  # fmt: skip
    """An execution of what the reference means now, pinned to its digest.

    Args:
        inputs: JSON.
        only_set: some of these without what nobody had set, for a flow that knows their fields, and so their defaults.

    Raises:
        KitaruNotFoundError: no such flow, tag or version.
        KitaruUsageError: the inputs do not fit the version's schema.
    """
    from kitaru_registry.schemas import check_inputs

    with database.read() as connection:
        resolved = resolve_on(connection, ref, project=project)
    version, config = resolved.version, resolved.config
    inputs = inputs | {
        name: value for name, value in (only_set or {}).items() if knows_fields(config.input_schema, name)
    }
    check_inputs(config.input_schema, inputs, flow=version.flow)
    return NewExecution(
        exec_id=new_execution_id(),
        project=version.project,
        flow=version.flow,
        kind="deployed",
        version=version.version,
        version_row=resolved.row,
        digest=version.digest,
        tag=resolved.tag,
        inputs=inputs,
        inputs_codec="json",
        inputs_data=json.dumps(inputs, separators=(",", ":")).encode(),
        input_digest=json_digest(inputs),
        idempotency_key=idempotency_key,
        actor=actor,
        needs={"python": config.python, "platform": config.platform, "protocol": config.protocol},
        retries=config.options.retries,
        cache=config.options.cache,
        finish_seconds=config.options.finish_timeout,
        parent=parent.row if parent else None,
        parent_key=parent.key if parent else None,
    )


def knows_fields(schema: Mapping[str, Any], name: str) -> bool:
    """Whether the flow's parameter of that name is, or holds, a class with declared fields."""
    said = json.dumps(schema.get("properties", {}).get(name, {}))
    return '"$ref"' in said or '"properties"' in said


def of_same_snapshot(
    database: Database, parent: Parent, *, flow: str, entrypoint: str, codec: str, data: bytes,
    options: Mapping[str, Any],
) -> NewExecution:  # fmt: skip
    """A child of a deployed execution, on the very snapshot that its parent runs on.

    Args:
        entrypoint: of the flow, in the snapshot's code.
        options: `retries`, `cache` and `finish_timeout`, where they are not the defaults.
    """
    with database.read() as connection:
        row = connection.execute(select(executions).where(executions.c.id == parent.row)).one()
    return NewExecution(
        exec_id=new_execution_id(),
        project=row.project,
        flow=flow,
        kind="deployed",
        digest=row.digest,
        inputs=shown_inputs(codec, data),
        inputs_codec=codec,
        inputs_data=data,
        input_digest=sha256_of(data),
        actor=row.actor,
        needs={name: value for name, value in row.needs.items() if name != FAULT} if row.needs else None,
        entrypoint=entrypoint,
        retries=options.get("retries", 0),
        cache=options.get("cache"),
        finish_seconds=options.get("finish_timeout"),
        parent=parent.row,
        parent_key=parent.key,
    )


def shown_inputs(codec: str, data: bytes) -> dict[str, Any]:
    """Encoded inputs as JSON, to show and to filter by."""
    value = as_json(codec, data)
    return value if isinstance(value, dict) else {"inputs": value}


def actor_of(database: Database, row: int) -> str:
    """Who started an execution."""
    with database.read() as connection:
        return str(connection.execute(select(executions.c.actor).where(executions.c.id == row)).scalar_one())


def root_on(connection: Connection, row: Any) -> Any:
    """The topmost open source execution that this one is a child of, through open source executions; or itself."""
    while row.parent is not None:
        parent = connection.execute(select(executions).where(executions.c.id == row.parent)).one()
        if parent.kind != "source" or parent.status in ENDED:
            break
        row = parent
    return row


def open_descendants(database: Database, exec_id: str) -> dict[ExecutionId, str]:
    """Id to status of the open executions that this one started, and of those that they started, parents first."""
    with database.read() as connection:
        row = connection.execute(select(executions.c.id).where(executions.c.exec_id == exec_id)).scalar_one()
        return descend(connection, row)


def descend(connection: Connection, row: int) -> dict[ExecutionId, str]:
    found: dict[ExecutionId, str] = {}
    wanted = select(executions).where(executions.c.parent == row, executions.c.status.in_(OPEN))
    for child in connection.execute(wanted.order_by(executions.c.id)).all():
        found |= {ExecutionId(child.exec_id): child.status, **descend(connection, child.id)}
    return found


def stands_still(database: Database, exec_id: str) -> bool:
    """Whether a waiting execution waits for somebody, or for a time: not for children that go on."""
    with database.read() as connection:
        row = connection.execute(select(executions).where(executions.c.exec_id == exec_id)).one()
        return rests(connection, row)


def rests(connection: Connection, row: Any) -> bool:
    if row.status != "waiting":
        return False
    of_children = select(waits.c.child).where(
        waits.c.execution == row.id, waits.c.kind == "child", waits.c.status == "pending"
    )
    children = connection.execute(select(executions).where(executions.c.id.in_(of_children))).all()
    return all(rests(connection, child) for child in children)


def waits_for_child_on(connection: Connection, row: int) -> bool:
    """Whether an execution stands at a child execution's end, among other things maybe."""
    standing = select(waits.c.key).where(waits.c.execution == row, waits.c.kind == "child", waits.c.status == "pending")
    return connection.execute(standing.limit(1)).one_or_none() is not None


def stop_waiting(database: Database, exec_id: str) -> None:
    """Let a waiting execution be claimed whose process is gone: what it stands at may have no process either."""
    with database.write(exec_id) as connection:
        stop_waiting_on(connection, exec_id)


def stop_waiting_on(connection: Connection, exec_id: str) -> None:
    """`stop_waiting`, within a transaction of the caller's."""
    connection.execute(
        update(executions)
        .where(executions.c.exec_id == exec_id, executions.c.status == "waiting")
        .values(status="pending", not_before_us=0)
    )
