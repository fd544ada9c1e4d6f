"""Inputs and answers against a JSON schema, where the code that the schema was made from must not run.

Strict, as JSON is: `true` is no integer, `"3"` is no integer, `3.0` is no integer. Everything that is wrong is said at
once, in the schema's own names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache, lru_cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from math import isfinite
from typing import Annotated, Any, Literal, cast
from uuid import UUID

from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.exceptions import SchemaError
from jsonschema.validators import extend
from pydantic import AnyUrl, ConfigDict, Field, TypeAdapter
from pydantic import ValidationError as InvalidValue
from pydantic_core import SchemaError as PydanticSchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from kitaru_registry.errors import KitaruUsageError, KitaruWaitValidationError
from kitaru_registry.models import JsonSchema
from kitaru_registry.names import nearest

LONGEST_VALUE_SHOWN = 40
FORMATS: Mapping[str, type] = {
    "date": date,
    "date-time": datetime,
    "time": time,
    "duration": timedelta,
    "uuid": UUID,
    "uri": AnyUrl,
    "ipv4": IPv4Address,
    "ipv6": IPv6Address,
    "ipv4network": IPv4Network,
    "ipv6network": IPv6Network,
    # Ours: numbers that are written as text, and as an object's keys.
    "decimal": Decimal,
    "integer": int,
    "number": float,
    "boolean": bool,
}
LIMITS: Mapping[str, str] = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "a match of {}",
}
MOMENTS = frozenset({"date", "date-time", "time", "duration"})


def check_schema(schema: JsonSchema) -> None:
    """
    Raises:
        KitaruUsageError: it is no JSON schema (draft 2020-12).
    """
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise KitaruUsageError(f"this is no JSON schema: {error.message}", hint="JSON Schema, draft 2020-12") from error


def check_inputs(schema: JsonSchema, inputs: Mapping[str, Any], *, flow: str = "the flow") -> None:
    """
    Raises:
        KitaruUsageError: names every missing, unknown and unfit parameter.
    """
    parameters: dict[str, JsonSchema] = schema.get("properties", {})
    wrong = [
        f"{name} is missing ({words_of(parameters.get(name, {}), schema)})"
        for name in schema.get("required", ())
        if name not in inputs
    ]
    if schema.get("additionalProperties") is False:
        wrong += [unknown(name, parameters) for name in inputs if name not in parameters]
    # Said already, in better words.
    own = ("required", "additionalProperties")
    wrong += faults(schema, dict(inputs), skip=own)
    if wrong:
        raise KitaruUsageError(
            f"these inputs do not fit {flow}: {'; '.join(wrong)}", hint=f"parameters: {signature(schema)}"
        )


def check_answer(
    schema: JsonSchema | None, value: object, *, what: str = "this answer", wants: str = "it stays waiting for"
) -> None:
    """
    Args:
        what, wants: the words of the error.

    Raises:
        KitaruWaitValidationError: the value does not fit; no schema fits every value.
    """
    if schema is None:
        return
    wrong = list(faults(schema, value))
    if wrong:
        raise KitaruWaitValidationError(
            f"{what} does not fit: {'; '.join(wrong)}", hint=f"{wants}: {words_of(schema, schema)}"
        )


def faults(schema: JsonSchema, value: object, *, skip: Iterable[str] = ()) -> Iterator[str]:
    """What is wrong with `value`, in words, each with its place; `skip` are keywords at the top to leave out."""
    try:
        errors = sorted(validator_of(schema).iter_errors(value), key=lambda error: [str(e) for e in error.path])
    except Unresolvable as lost:
        raise KitaruUsageError(
            f"the schema refers to {lost.ref}, which it does not define", hint="put it under $defs of the same schema"
        ) from lost
    for error in errors:
        if error.path or error.validator not in skip:
            for told in innermost(error):
                yield at_place(told, reason(told, schema))


def innermost(error: ValidationError) -> Iterator[ValidationError]:
    """What to say of an `anyOf`: where one branch alone has the value's type, that branch's own errors."""
    branches: dict[object, list[ValidationError]] = {}
    for inner in error.context:
        branches.setdefault(inner.schema_path[0], []).append(inner)
    fitting = [inners for inners in branches.values() if not any(is_another_kind(inner) for inner in inners)]
    if len(fitting) != 1:
        yield error
    else:
        for inner in fitting[0]:
            yield from innermost(inner)


def is_another_kind(error: ValidationError) -> bool:
    """Whether the value was not meant for this branch: another type, or another word where a model's kind stands."""
    return (error.validator == "type" and not error.path) or (error.validator == "const" and len(error.path) < 2)


def at_place(error: ValidationError, words: str) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    place = "".join(steps).removeprefix(".")
    return f"{place}: {words}" if place else words


def reason(error: ValidationError, schema: JsonSchema) -> str:
    keyword, asked, value = str(error.validator), cast("Any", error.validator_value), cast("Any", error.instance)
    if keyword in ("type", "enum", "const", "anyOf", "oneOf", "format"):
        return f"expected {words_of(error.schema, schema)}, got {value_in_words(value)}"
    if keyword == "required":
        # One error comes for each missing name, all with the same list; each names its own first.
        return error.message.replace(" is a required property", " is missing").replace("'", "")
    if keyword == "additionalProperties" and asked is False:
        known = cast("Mapping[str, Any]", error.schema).get("properties", {})
        return "; ".join(unknown(name, known) for name in value if name not in known)
    if keyword in LIMITS:
        return f"expected {LIMITS[keyword].format(json.dumps(asked))}, got {value_in_words(value)}"
    return shortened(error.message)


def unknown(name: str, known: Iterable[str]) -> str:
    near = nearest(name, list(known))
    return f"{shortened(name)} is unknown" + (f" (did you mean {near}?)" if near else "")


def signature(schema: JsonSchema) -> str:
    """`topic (string), count (integer, default 3)`"""
    parts = []
    for name, parameter in schema.get("properties", {}).items():
        words = words_of(parameter, schema)
        if "default" in parameter:
            words += f", default {shortened(json.dumps(parameter['default'], ensure_ascii=False))}"
        parts.append(f"{name} ({words})")
    return ", ".join(parts) or "none"


def words_of(schema: Any, root: JsonSchema, *, depth: int = 0) -> str:
    """What a schema asks for, in a few words: `integer or null`, `one of "a", "b"`, `array of string`."""
    if not isinstance(schema, dict) or depth > 3:
        return "any value"
    if "$ref" in schema:
        return words_of(referred(schema["$ref"], root), root, depth=depth + 1)
    if "const" in schema:
        return value_in_words(schema["const"], typed=False)
    if "enum" in schema:
        return "one of " + ", ".join(value_in_words(value, typed=False) for value in schema["enum"])
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return " or ".join(dict.fromkeys(words_of(one, root, depth=depth + 1) for one in schema[keyword]))
    kind = schema.get("type", "any value")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array" and "items" in schema:
        return f"array of {words_of(schema['items'], root, depth=depth + 1)}"
    if kind == "object" and "properties" in schema:
        return f"object with {', '.join(schema['properties'])}"
    return f"{kind} ({schema['format']})" if "format" in schema else str(kind)


def referred(ref: str, root: JsonSchema) -> Any:
    """The part of `root` that a local `#/...` names; None of any other."""
    found: Any = root
    for step in ref.removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found


def value_in_words(value: object, *, typed: bool = True) -> str:
    """`string "yes"`; containers by type and size alone, since they are long and may hold secrets."""
    match value:
        case dict():
            return f"object of {len(value)}"
        case list():
            return f"array of {len(value)}"
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
    name = {str: "string", int: "integer", float: "number"}.get(type(value), type(value).__name__)
    shown = shortened(json.dumps(value, ensure_ascii=False, default=repr))
    return f"{name} {shown}" if typed else shown


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE_SHOWN else f"{text[: LONGEST_VALUE_SHOWN - 1]}…"


def validator_of(schema: JsonSchema) -> Draft202012Validator:
    # An empty registry: a schema never makes us fetch another one from the network.
    validator: Draft202012Validator = STRICT(schema, registry=Registry(), format_checker=formats())
    return validator


def is_integer(_: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(_: object, value: object) -> bool:
    return is_integer(_, value) or (isinstance(value, float) and isfinite(value))


def fits_pattern(_: object, pattern: str, value: object, __: object) -> Iterator[ValidationError]:
    """As pydantic has it: its engine knows other patterns than Python's, and `$` is the end alone."""
    if isinstance(value, str) and not matches(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def matches(pattern: str, text: str) -> bool:
    for engine in ("rust-regex", "python-re"):
        try:
            return not is_refused(pattern_adapter(pattern, engine), text)
        except PydanticSchemaError:
            continue
    # A pattern that no engine here knows is for whoever wrote it to judge.
    return True


@lru_cache(maxsize=256)
def pattern_adapter(pattern: str, engine: Literal["rust-regex", "python-re"]) -> TypeAdapter[Any]:
    return TypeAdapter(Annotated[str, Field(pattern=pattern)], config=ConfigDict(regex_engine=engine))


def is_refused(adapter: TypeAdapter[Any], value: object) -> bool:
    try:
        adapter.validate_python(value)
    except InvalidValue:
        return True
    return False


def is_multiple(_: object, factor: float, value: object, __: object) -> Iterator[ValidationError]:
    """As pydantic has it: what floating point makes of 0.3 is a multiple of 0.1."""
    if not is_number(_, value):
        return
    number = cast("float", value)
    rest = abs(number % factor)
    slack = abs(number) / 1e9 if isinstance(number, float) or isinstance(factor, float) else 0
    if rest > slack and abs(rest - factor) > slack:
        yield ValidationError(f"{number} is not a multiple of {factor}")


def fits_decimal(_: object, limits: Mapping[str, str], value: object, __: object) -> Iterator[ValidationError]:
    """The limits of a Decimal, on a number and on text that is one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return
    asked = {name: int(limit) if name in WHOLE else Decimal(limit) for name, limit in limits.items()}
    try:
        TypeAdapter(Annotated[Decimal, Field(**asked)]).validate_python(value)
    except InvalidValue as error:
        # Text that is no number at all is said by its format.
        if error.errors()[0]["type"] not in ("decimal_parsing", "finite_number"):
            yield ValidationError(error.errors()[0]["msg"])


WHOLE = ("max_digits", "decimal_places")

STRICT = extend(  # type: ignore[no-untyped-call]  # jsonschema's stubs leave it out
    Draft202012Validator,
    validators={"pattern": fits_pattern, "multipleOf": is_multiple, "x-decimal": fits_decimal},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": is_integer, "number": is_number}),
)


@cache
def formats() -> FormatChecker:
    """The formats that pydantic writes into schemas, checked as pydantic will read them; others say nothing."""
    checker = FormatChecker(formats=())
    for name in FORMATS:
        checker.checks(name, raises=ValueError)(partial(has_format, name))
    return checker


def has_format(name: str, value: object) -> bool:
    if not isinstance(value, str):
        return True
    # Pydantic takes digits for seconds since 1970, which nobody means by a date.
    if name in MOMENTS and re.fullmatch(r"[+-]?[0-9.]+", value):
        return False
    adapter_of(name).validate_strings(value)
    return True


@cache
def adapter_of(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(FORMATS[name])
