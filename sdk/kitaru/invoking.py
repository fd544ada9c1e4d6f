"""Story 3: a reference becomes a digest, and an execution that is pinned to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kitaru.handle import FlowHandle
from kitaru_registry.canonical import canonical_json, sha256_of
from kitaru_registry.database import Database
from kitaru_registry.deployments.refs import FlowRef, Resolved, resolve_on
from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.executions import creating
from kitaru_registry.executions.ids import new_execution_id
from kitaru_registry.schemas import check_inputs

if TYPE_CHECKING:
    from kitaru.client import KitaruClient


def invoke(
    client: KitaruClient, ref: FlowRef, inputs: Mapping[str, Any], *, idempotency_key: str | None = None
) -> FlowHandle:
    """Validate, resolve and insert, and see to it that a runner hears of it."""
    given = as_json(inputs)
    resolved = resolve_now(client.database, ref, project=client.project)
    version = resolved.version
    check_inputs(resolved.config.input_schema, given, flow=version.flow)
    encoded = json.dumps(given, separators=(",", ":")).encode()
    new = creating.NewExecution(
        exec_id=new_execution_id(),
        project=version.project,
        flow=version.flow,
        kind="deployed",
        version=version.version,
        version_row=resolved.row,
        digest=version.digest,
        tag=resolved.tag,
        inputs=given,
        inputs_codec="json",
        inputs_data=encoded,
        input_digest=sha256_of(canonical_json(given)),
        idempotency_key=idempotency_key,
        actor=client.actor,
        needs={
            "python": resolved.config.python,
            "platform": resolved.config.platform,
            "protocol": resolved.config.protocol,
        },
    )
    exec_id, created = creating.create(client.database, new)
    client.runner.ensure()
    return FlowHandle(client, exec_id, version.flow, created=created)


def resolve_now(database: Database, ref: FlowRef, *, project: str) -> Resolved:
    with database.read() as connection:
        return resolve_on(connection, ref, project=project)


def as_json(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs as JSON: models, dataclasses, datetimes and the like in their JSON form.

    Raises:
        KitaruUsageError: one has no JSON form.
    """
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(inputs), allow_nan=False))
    except (TypeError, ValueError):
        from pydantic_core import PydanticSerializationError, to_jsonable_python

        try:
            found = to_jsonable_python(dict(inputs))
        except PydanticSerializationError as error:
            raise KitaruUsageError(f"the inputs have no JSON form: {error}", hint="pass plain data") from error
    return found
