"""A flow's signature as JSON schema, and JSON inputs as what the function expects.

pydantic is imported only for annotations that plain JSON does not answer: it takes a tenth of a second.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from typing import Any

from kitaru_registry.errors import KitaruUsageError

JsonSchema = dict[str, Any]

PLAIN: dict[Any, JsonSchema] = {
    inspect.Parameter.empty: {},
    Any: {},
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    dict: {"type": "object"},
    list: {"type": "array"},
    None: {"type": "null"},
    type(None): {"type": "null"},
}


def input_schema(function: Callable[..., Any]) -> JsonSchema:
    """An object schema with a property for each parameter; unknown ones are forbidden unless it takes `**kwargs`."""
    properties: JsonSchema = {}
    definitions: JsonSchema = {}
    required = []
    open_ended = False
    hints = hints_of(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            open_ended = True
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        schema = dict(schema_of(hints.get(name, parameter.annotation)) or {})
        definitions.update(schema.pop("$defs", {}))
        if parameter.default is parameter.empty:
            required.append(name)
        elif is_plain_json(parameter.default):
            schema["default"] = parameter.default
        properties[name] = schema
    found: JsonSchema = {"type": "object", "properties": properties, "additionalProperties": open_ended}
    if required:
        found["required"] = required
    if definitions:
        found["$defs"] = definitions
    return found


def output_schema(function: Callable[..., Any]) -> JsonSchema | None:
    """The schema of what the function returns; None where it does not say."""
    annotation = hints_of(function).get("return", inspect.Parameter.empty)
    return None if annotation is inspect.Parameter.empty else schema_of(annotation)


def schema_of(annotation: Any) -> JsonSchema | None:
    """The annotation's JSON schema; None where pydantic has none."""
    plain = plain_schema(annotation)
    if plain is not None:
        return plain
    try:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError
    except ImportError:
        return None
    try:
        return TypeAdapter(annotation).json_schema(ref_template="#/$defs/{model}")
    except (PydanticUserError, TypeError, NameError):
        return None


def convert_inputs(function: Callable[..., Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """JSON inputs as the types that the parameters are annotated with.

    Raises:
        KitaruUsageError: one does not fit.
    """
    hints = hints_of(function)
    return {name: convert(name, value, hints.get(name, Any)) for name, value in inputs.items()}


def convert(name: str, value: Any, annotation: Any) -> Any:
    if plain_schema(annotation) is not None:
        return float(value) if annotation is float and isinstance(value, int) else value
    try:
        from pydantic import TypeAdapter, ValidationError
        from pydantic.errors import PydanticUserError
    except ImportError:
        return value
    try:
        return TypeAdapter(annotation).validate_json(json.dumps(value))
    except ValidationError as error:
        raise KitaruUsageError(f"input {name} does not fit: {error}") from error
    except (PydanticUserError, TypeError, NameError):
        return value


def plain_schema(annotation: Any) -> JsonSchema | None:
    try:
        return PLAIN.get(annotation)
    except TypeError:  # an annotation that cannot be hashed
        return None


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # an annotation may name what is imported for type checkers only
        return dict(getattr(function, "__annotations__", {}))


def is_plain_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
