"""Story 3: a reference becomes a digest, and an execution that is pinned to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kitaru.handle import FlowHandle
from kitaru_registry.errors import KitaruUsageError

if TYPE_CHECKING:
    from kitaru.client import KitaruClient
    from kitaru_registry.deployments.refs import FlowRef


def invoke(
    client: KitaruClient, ref: FlowRef, inputs: Mapping[str, Any], *, idempotency_key: str | None = None
) -> FlowHandle:
    """Validate, resolve and insert, and see to it that a runner hears of it."""
    from kitaru_registry.executions import creating, families

    new = families.invocation(
        client.database, ref, as_json(inputs), project=client.project, actor=client.actor,
        idempotency_key=idempotency_key,
    )  # fmt: skip
    exec_id, created = creating.create(client.database, new)
    client.runner.ensure()
    return FlowHandle(client, exec_id, new.flow, created=created)


def as_json(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs as JSON: models, dataclasses, datetimes and the like in their JSON form.

    Raises:
        KitaruUsageError: one has no JSON form.
    """
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(inputs), allow_nan=False))
    except (TypeError, ValueError):
        return {name: json_of(name, value) for name, value in inputs.items()}
    return found


def json_of(name: str, value: Any) -> Any:
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, UnicodeDecodeError) as error:
        raise KitaruUsageError(
            f"the input {name} has no JSON form: {error}", hint="pass plain data; bytes as text, in base64 for example"
        ) from error
