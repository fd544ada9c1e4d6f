"""A flow's signature as JSON schema, and JSON inputs as what the function expects.

pydantic is imported only for annotations that plain JSON does not answer: it takes a tenth of a second.
"""

from __future__ import annotations

import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from kitaru_registry.errors import KitaruUsageError
from kitaru_runner.values.typed_dicts import Key, keys_of

JsonSchema = dict[str, Any]

POSITIONAL = "*args"
"""The name under which inputs that are given by position are listed."""

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
    """An object schema with a property for each parameter. Others are what `**kwargs` says, or forbidden."""
    properties: JsonSchema = {}
    definitions: JsonSchema = {}
    required = []
    others: JsonSchema | bool = False
    hints = hints_of(function)

    def schema_for(annotation: Any) -> JsonSchema:
        schema = dict(schema_of(annotation) or {})
        definitions.update(schema.pop("$defs", {}))
        return schema

    for name, parameter in parameters_of(function).items():
        hint = hints.get(name, Any)
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is not parameter.VAR_KEYWORD:
            properties[name] = schema_for(hint)
            if parameter.default is parameter.empty:
                required.append(name)
            elif is_plain_json(parameter.default):
                properties[name]["default"] = parameter.default
        elif (named := unpacked(hint)) is not None:
            properties |= {key: schema_for(each.hint) for key, each in named.items()}
            required += [key for key, each in named.items() if each.is_required]
        else:
            others = schema_for(hint) or True
    found: JsonSchema = {"type": "object", "properties": properties, "additionalProperties": others}
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
        from pydantic.errors import PydanticUserError

        from kitaru_runner.values.json_schemas import schema_by_pydantic
    except ImportError:
        return None
    try:
        return schema_by_pydantic(annotation)
    except (PydanticUserError, TypeError, NameError):
        return None


def convert_inputs(function: Callable[..., Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """JSON inputs as the types that the parameters are annotated with, as the function is called with them.

    Raises:
        KitaruUsageError: one does not fit.
    """
    hints = {**others_of(function, inputs), **hints_of(function)}
    return by_position(function, {name: convert(name, value, hints.get(name, Any)) for name, value in inputs.items()})


def others_of(function: Callable[..., Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The types of those inputs that `**kwargs` takes."""
    parameters = parameters_of(function)
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            hint = hints_of(function).get(name, Any)
            named = unpacked(hint)
            if named is None:
                return dict.fromkeys(inputs.keys() - parameters.keys(), hint)
            return {key: each.hint for key, each in named.items()}
    return {}


def by_position(function: Callable[..., Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The same inputs; those that a parameter takes by its place alone are listed under `*args`."""
    named, placed = dict(inputs), list(inputs.get(POSITIONAL, ()))
    only = [each for each in parameters_of(function).values() if each.kind is each.POSITIONAL_ONLY]
    wanted = max((place for place, each in enumerate(only, 1) if each.name in named), default=0)
    for each in only[len(placed) : wanted]:
        if each.name not in named and each.default is each.empty:
            raise KitaruUsageError(f"{each.name} is missing, and is taken by its place", hint="give it too")
        placed.append(named.pop(each.name, each.default))
    for each in only[: len(placed)]:
        named.pop(each.name, None)
    return {**named, POSITIONAL: placed} if placed else named


def convert(name: str, value: Any, annotation: Any) -> Any:
    if plain_schema(annotation) is not None:
        return float(value) if annotation is float and isinstance(value, int) else value
    try:
        from pydantic import ValidationError
        from pydantic.errors import PydanticUserError

        from kitaru_runner.values.json_schemas import adapter_of
    except ImportError:
        return value
    try:
        return adapter_of(annotation).validate_json(json.dumps(value))
    except ValidationError as error:
        raise KitaruUsageError(f"input {name} does not fit: {error}") from error
    except (PydanticUserError, TypeError, NameError):
        return value


def plain_schema(annotation: Any) -> JsonSchema | None:
    try:
        return PLAIN.get(annotation)
    except TypeError:  # an annotation that cannot be hashed
        return None


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return signature_of(function).parameters


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature, whatever its annotations name."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        from annotationlib import Format, get_annotations

        return get_annotations(function, format=Format.FORWARDREF)
    return dict(getattr(function, "__annotations__", {}))


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The type of each parameter, and of what is returned; Any where its annotation names what is not there.

    Each for itself: one name that is imported for type checkers alone is not to undo the others.
    """
    function = inspect.unwrap(function)
    return {name: hint_of(function, name, annotation) for name, annotation in annotations_of(function).items()}


def hint_of(function: Callable[..., Any], name: str, annotation: Any) -> Any:
    alone = types.SimpleNamespace(__annotations__={name: annotation})
    try:
        found = typing.get_type_hints(alone, globalns=getattr(function, "__globals__", {}), include_extras=True)[name]
    except Exception:
        return Any
    return Any if isinstance(found, str | typing.ForwardRef) else found


def unpacked(hint: Any) -> dict[str, Key] | None:
    """The keys of `**kwargs: Unpack[...]`; None of another annotation."""
    is_unpacked = getattr(typing.get_origin(hint), "_name", "") == "Unpack"
    return keys_of(typing.get_args(hint)[0]) if is_unpacked else None


def is_plain_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
