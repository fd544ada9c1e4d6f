"""Writes what is not written by hand: the reference of `kitaru.toml`, from the model that reads it, and that of the
commands, from the app that parses them.

    python docs/generate.py

A test fails when a page is not what this would write.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kitaru_cli.main import build
from kitaru_registry.config import KitaruToml

DOCS = Path(__file__).parent
MARKS = ("<!-- the reference begins: python docs/generate.py -->", "<!-- the reference ends -->")


def main() -> None:
    for name, page in pages().items():
        (DOCS / name).write_text(page)


def pages() -> dict[str, str]:
    """Each page that holds a reference, by its name, as it should be."""
    references = {
        "kitaru-toml.md": "\n\n".join(sections("", KitaruToml, "")),
        "commands.md": "\n\n".join(commands("kitaru", typer.main.get_command(build()))),
    }
    return {name: with_reference((DOCS / name).read_text(), reference) for name, reference in references.items()}


def with_reference(page: str, reference: str) -> str:
    begin, end = (re.escape(mark) for mark in MARKS)
    filled = "\n\n".join((MARKS[0], reference, MARKS[1]))
    return re.sub(f"{begin}.*{end}", lambda _: filled, page, flags=re.S)


def commands(path: str, command: Any) -> Iterator[str]:
    """The section of a command, or of each command below it. Typed loosely: typers carry different clicks."""
    below = getattr(command, "commands", {})
    if command.epilog or not below:
        yield section_of_command(path, command)
    for name, nested in below.items():
        yield from commands(f"{path} {name}", nested)


def section_of_command(path: str, command: Any) -> str:
    rows = [f"| {parameter_words(it)} | {' '.join((it.help or '').split())} |" for it in shown(command.params)]
    table = "\n".join(["| | |", "|---|---|", *rows]) if rows else ""
    about = "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", (command.help or "").replace("\b", "")))
    examples = [line.strip().removeprefix("$ ") for line in (command.epilog or "").splitlines() if "$ " in line]
    fence = "\n".join(["```", *examples, "```"]) if examples else ""
    return "\n\n".join(part for part in (f"## `{path}`", about, table, fence) if part)


def shown(parameters: list[Any]) -> list[Any]:
    """All but those that every command has."""
    return [it for it in parameters if it.name not in ("output", "help") and not getattr(it, "hidden", False)]


def parameter_words(parameter: Any) -> str:
    metavar = parameter.metavar or ""
    if parameter.param_type_name == "argument":
        words = metavar or parameter.name.upper()
        words = words if parameter.required or words.startswith("[") else f"[{words}]"
    else:
        words = " ".join(filter(None, (", ".join(sorted(parameter.opts, key=len)), metavar)))
    return f"`{words}`".replace("|", "\\|")


def sections(name: str, model: type[BaseModel], about: str) -> Iterator[str]:
    """The table of a model's own keys, then those of the tables below it."""
    below = {key: found for key, field in model.model_fields.items() if (found := table_below(field)) is not None}
    rows = [row(key, field) for key, field in model.model_fields.items() if key not in below]
    heading = f"### `[{name}]`" if name else "### At the top"
    table = "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows]) if rows else ""
    yield "\n\n".join(part for part in (heading, about, table) if part)
    for key, (suffix, nested) in below.items():
        told = model.model_fields[key].description or ""
        yield from sections(".".join(filter(None, (name, key + suffix))), nested, told)


def table_below(field: FieldInfo) -> tuple[str, type[BaseModel]] | None:
    """The model of a field that is a table in the file; `.NAME` where there is one for each name."""
    annotation = field.annotation
    if get_origin(annotation) is dict:
        value = get_args(annotation)[1]
        return (".NAME", value) if is_model(value) else None
    return ("", annotation) if is_model(annotation) else None  # type: ignore[return-value]


def is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def row(key: str, field: FieldInfo) -> str:
    if not field.description:
        raise SystemExit(f"{key} has no description in kitaru_registry/config.py")
    meaning = " ".join(field.description.split()).replace("|", "\\|")
    return f"| `{key}` | {type_words(field.annotation)} | {default_words(field)} | {meaning} |"


def default_words(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return ""
    return f"`{json.dumps(list(default) if isinstance(default, tuple) else default)}`"


def type_words(annotation: Any) -> str:
    """A type in the words of TOML."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{json.dumps(choice)}`" for choice in arguments)
    if origin is Annotated:
        return type_words(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(type_words(choice) for choice in arguments if choice is not types.NoneType)
    if origin in (list, tuple):
        return f"array of {type_words(arguments[0])}s"
    if origin is dict:
        return "table"
    words: dict[object, str] = {str: "string", int: "integer", bool: "boolean", float: "number"}
    return words[annotation]


if __name__ == "__main__":
    main()
