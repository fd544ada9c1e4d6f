"""Story 3: a reference becomes a digest, and an execution that is pinned to it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kitaru.handle import FlowHandle
from kitaru_registry.errors import KitaruBackendError, KitaruUsageError
from kitaru_runner.values.pydantic_models import is_model

if TYPE_CHECKING:
    from kitaru.session import Session
    from kitaru_registry.deployments.refs import FlowRef


def invoke(
    session: Session, ref: FlowRef, inputs: Mapping[str, Any], *, idempotency_key: str | None = None
) -> FlowHandle:
    """Validate, resolve and insert, and see to it that a runner hears of it."""
    from kitaru import working
    from kitaru_registry.deployments.versions import declared_variables
    from kitaru_registry.executions import creating, families

    plain = as_json(inputs)
    only_set = {name: without_unset(value, plain[name]) for name, value in inputs.items() if not is_plain(value)}
    new = families.invocation(
        session.database, ref, plain, project=session.project, actor=session.actor,
        idempotency_key=idempotency_key, only_set=only_set,
    )  # fmt: skip
    names = [name for name in declared_variables(session.database, new.digest) if name in os.environ]
    new = replace(new, needs={**(new.needs or {}), "variables": names})
    # Before it is there to be claimed.
    heard = working.hand_over(session, new.exec_id, new.digest, f"{new.project}/{new.flow}", names)
    exec_id, created = creating.create(session.database, new)
    try:
        working.ensure(session)
    except KitaruBackendError as error:
        raise KitaruBackendError(
            f"execution {exec_id} is pending, and no runner can be started: {error.message}", hint=error.hint
        ) from error
    if created and not heard:
        working.hand_over_to_starting(session, exec_id, new.digest, f"{new.project}/{new.flow}", names)
    return FlowHandle(session, exec_id, new.flow, created=created)


def as_json(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs as JSON: models, dataclasses, datetimes and the like in their JSON form.

    Raises:
        KitaruUsageError: one has no JSON form.
    """
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(inputs), allow_nan=False))
    except RecursionError as error:
        raise KitaruUsageError("the inputs are nested too deeply", hint="some hundred levels are the most") from error
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


def is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | None)


def without_unset(value: Any, said: Any) -> Any:
    """The JSON form without those fields of models that were not set: whoever reads it gives them the same defaults.

    What a factory made, an id or a time, is not made a second time.
    """
    if isinstance(value, list | tuple) and isinstance(said, list) and len(value) == len(said):
        return [without_unset(*pair) for pair in zip(value, said, strict=True)]
    if not isinstance(said, dict):
        return said
    if isinstance(value, dict):
        return {key: without_unset(value.get(key), item) for key, item in said.items()}
    if is_model(type(value)):
        fields = type(value).model_fields
        unset = {name for name in fields.keys() - value.model_fields_set if has_its_default(value, name, fields[name])}
        names = {field.serialization_alias or name: name for name, field in fields.items()}
        kept = {key: item for key, item in said.items() if names.get(key) not in unset}
        return {key: without_unset(getattr(value, names.get(key, key), None), item) for key, item in kept.items()}
    return {key: without_unset(getattr(value, key, None), item) for key, item in said.items()}


def has_its_default(value: Any, name: str, field: Any) -> bool:
    return not field.is_required() and field.default_factory is None and getattr(value, name) == field.default
