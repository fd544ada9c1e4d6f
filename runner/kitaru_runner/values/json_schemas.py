"""JSON schemas that ask for what pydantic accepts, where its own say more or less than that.

The door of a flow, and of a wait, has the schema alone; behind it the flow's own pydantic reads the same JSON. What one
refuses the other must not take.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from kitaru_runner.values.typed_dicts import keys_of

JsonSchema = dict[str, Any]

KEY_FORMATS = {"int": "integer", "float": "number", "decimal": "decimal", "bool": "boolean"}
"""Keys of an object are text; what they are read as, by the name that pydantic's core has for it."""

DECIMAL_LIMITS = ("multiple_of", "le", "ge", "lt", "gt", "max_digits", "decimal_places")


def schema_by_pydantic(annotation: Any, *, ref_template: str = "#/$defs/{model}") -> JsonSchema:
    """
    Raises:
        PydanticUserError, TypeError, NameError: pydantic has none for it.
    """
    return adapter_of(annotation).json_schema(ref_template=ref_template, schema_generator=AsValidated)


def adapter_of(annotation: Any) -> TypeAdapter[Any]:
    """The validator of an annotation; with the TypedDicts in it in the form that pydantic takes on this Python."""
    return TypeAdapter(portable(annotation))


class AsValidated(GenerateJsonSchema):
    _takes_names = False

    def decimal_schema(self, schema: Any) -> JsonSchema:
        """A number, or text that is one: a format of ours, which knows the limits too."""
        found = super().decimal_schema(schema)
        limits = {name: str(schema[name]) for name in DECIMAL_LIMITS if schema.get(name) is not None}
        for branch in found.get("anyOf", [found]):
            branch.pop("pattern", None)
            if branch.get("type") == "string":
                branch["format"] = "decimal"
            if limits:
                branch["x-decimal"] = limits
        return found

    def set_schema(self, schema: Any) -> JsonSchema:
        """A list that says a thing twice is a set all the same."""
        return without_uniqueness(super().set_schema(schema))

    def frozenset_schema(self, schema: Any) -> JsonSchema:
        return without_uniqueness(super().frozenset_schema(schema))

    def dict_schema(self, schema: Any) -> JsonSchema:
        found = super().dict_schema(schema)
        kind = KEY_FORMATS.get(schema.get("keys_schema", {}).get("type"))
        if kind is not None:
            found["propertyNames"] = {"format": kind}
        return found

    def model_schema(self, schema: Any) -> JsonSchema:
        config = schema["cls"].model_config
        outer, self._takes_names = (
            self._takes_names,
            bool(config.get("populate_by_name") or config.get("validate_by_name")),
        )
        try:
            return super().model_schema(schema)
        finally:
            self._takes_names = outer

    def model_fields_schema(self, schema: Any) -> JsonSchema:
        found = super().model_fields_schema(schema)
        for name, field in schema["fields"].items():
            allow_names(found, names_of(field, name, takes_name=self._takes_names))
        return found


def without_uniqueness(schema: JsonSchema) -> JsonSchema:
    return {keyword: asked for keyword, asked in schema.items() if keyword != "uniqueItems"}


def names_of(field: Mapping[str, Any], name: str, *, takes_name: bool) -> list[str | None]:
    """Under which names a field is taken, the schema's own first; None stands for a path into other fields."""
    alias = field.get("validation_alias")
    if alias is None:
        return [name]
    if isinstance(alias, str):
        choices: list[str | None] = [alias]
    else:
        paths = alias if alias and isinstance(alias[0], list) else [alias]
        choices = [path[0] if len(path) == 1 else None for path in paths]
    return [*choices, *([name] if takes_name and name not in choices else [])]


def allow_names(schema: JsonSchema, names: list[str | None]) -> None:
    """Let the first of the names stand for any."""
    first, *others = names
    properties = schema.get("properties", {})
    if not others or first not in properties:
        return
    properties.update({other: properties[first] for other in others if other is not None})
    if first in schema.get("required", ()):
        schema["required"].remove(first)
        if not schema["required"]:
            del schema["required"]
        if None not in names:
            schema.setdefault("allOf", []).append({"anyOf": [{"required": [name]} for name in names]})


def portable(annotation: Any) -> Any:
    """The same type, without what pydantic refuses on this Python: below 3.12 the standard library's TypedDict."""
    if sys.version_info >= (3, 12):
        return annotation
    if typing.is_typeddict(annotation) and type(annotation).__module__ == "typing":
        return extended(annotation)
    args = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if not args or origin is typing.Literal:
        return annotation
    if origin is typing.Annotated:
        inner = portable(args[0])
        return annotation if inner is args[0] else typing.Annotated[(inner, *args[1:])]
    found = tuple(portable(arg) for arg in args)
    if all(new is old for new, old in zip(found, args, strict=True)):
        return annotation
    if origin is types.UnionType:
        return typing.Union[found]  # noqa: UP007  # made of a tuple
    return annotation.copy_with(found) if hasattr(annotation, "copy_with") else origin[found]


def extended(typed_dict: Any) -> Any:
    """A TypedDict of the standard library, as typing_extensions has it."""
    import typing_extensions

    required, optional = typing_extensions.Required, typing_extensions.NotRequired
    fields = {
        name: (required if key.is_required else optional)[portable(key.hint)]
        for name, key in keys_of(typed_dict).items()
    }
    made = typing_extensions.TypedDict(typed_dict.__name__, fields)  # type: ignore[misc]  # made at run time
    made.__module__, made.__doc__ = typed_dict.__module__, typed_dict.__doc__
    return made
