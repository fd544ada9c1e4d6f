"""Asks a person on the terminal for a value of a JSON schema."""

from __future__ import annotations

import json
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import typer

from kitaru_cli.tables import Styled, show
from kitaru_cli.versions import type_name
from kitaru_cli.words import value_line, visible

if TYPE_CHECKING:
    from kitaru import KitaruClient
    from kitaru_registry.models import Execution, JsonSchema, Wait


LOOK_SECONDS = 0.25

is_open: ContextVar[Callable[[], bool] | None] = ContextVar("is_open", default=None)
"""Whether what a person is being asked is to be answered still; None: nothing but the person ends it."""


class NoLongerAsked(Exception):
    """Somebody else has answered, or the time is over."""


def can_ask() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def answer_all(client: KitaruClient, execution: Execution) -> None:
    """Ask for each pending wait of an execution in turn, and answer it; one that somebody else was faster with
    is left as it is."""
    from kitaru_registry.errors import KitaruConflictError, KitaruWaitValidationError

    for wait in execution.pending_waits:

        def is_pending(key: str = wait.key) -> bool:
            return client.waits.get(execution.exec_id, key).status == "pending"

        if not is_pending():  # another answer to a wait_any has closed it
            continue
        try:
            with asked_while(is_pending):
                client.waits.answer(execution.exec_id, wait.key, ask_for(wait))
        except NoLongerAsked:
            show(["", Styled(f"{wait.key} is not to be answered any more", "yellow")], sys.stderr)
        except (KitaruConflictError, KitaruWaitValidationError) as error:
            show([Styled(error.message, "red")], sys.stderr)


@contextmanager
def asked_while(is_wanted: Callable[[], bool]) -> Iterator[None]:
    token = is_open.set(is_wanted)
    try:
        yield
    finally:
        is_open.reset(token)


def ask_for(wait: Wait) -> Any:
    return ask(wait.schema_, wait.question or wait.name, name=wait.name)


def ask(schema: JsonSchema | None, question: str, *, name: str) -> Any:
    """A value that has the schema's type; asked again while what is typed has not. Prompts go to stderr.

    None where no more than a go-ahead is asked for, which has no schema.

    Objects are asked for field by field, where all fields are plain; anything else as JSON. What the schema
    says beyond types is for the registry to check.
    """
    question = visible(question)
    if "\n" in question:
        say(question)
        question = name
    if schema is None:
        ask_line(f"{question} [Enter to go on]")
        return None
    return ask_field(schema, question, definitions=schema.get("$defs", {}))


def ask_field(schema: JsonSchema, question: str, *, definitions: JsonSchema) -> Any:
    schema = resolved(schema, definitions)
    if "enum" in schema:
        return ask_choice(schema["enum"], question)
    kind, default = schema.get("type"), schema.get("default")
    if kind == "boolean":
        return ask_yes_or_no(question, default=default)
    if kind == "string":
        return ask_line(question, default=default)
    if kind in ("integer", "number"):
        return ask_json(question, kind, default=default)
    if kind == "object" and is_plain(schema, definitions):
        return ask_object(schema, question, definitions)
    return ask_json(question, type_name(schema), default=None)


def ask_line(question: str, *, default: object = None) -> str:
    """What is typed; the default for an empty line. Neither `input` nor click's prompt: they write to stdout.

    Raises:
        typer.Abort: stdin is at its end.
        NoLongerAsked: nobody wants to know any more.
    """
    shown = "" if default is None else f" [{default}]"
    say(f"{question}{shown}: ", end="")
    typed = read_line()
    if not typed:
        raise typer.Abort
    return typed.strip() or ("" if default is None else str(default))


def read_line() -> str:
    is_wanted = is_open.get()
    # A terminal gives no more than a line at once: what is not ready here is not in Python's buffer either.
    while is_wanted is not None and not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
        if not is_wanted():
            raise NoLongerAsked
    return sys.stdin.readline()


def ask_yes_or_no(question: str, *, default: bool | None = None) -> bool:
    choices = {None: "y/n", True: "Y/n", False: "y/N"}[default]
    while True:
        typed = ask_line(f"{question} [{choices}]").lower()
        if typed in ("y", "yes", "true"):
            return True
        if typed in ("n", "no", "false"):
            return False
        if not typed and default is not None:
            return default
        say("  y or n")


def say(text: str, *, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)


def resolved(schema: JsonSchema, definitions: JsonSchema) -> JsonSchema:
    """The schema that a local reference names."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    found: JsonSchema = definitions.get(name, schema)
    return found


def is_plain(schema: JsonSchema, definitions: JsonSchema) -> bool:
    """Whether each field of an object can be asked for by itself."""
    fields = [resolved(field, definitions) for field in schema.get("properties", {}).values()]
    simple = ("boolean", "string", "integer", "number")
    return bool(fields) and all("enum" in field or field.get("type") in simple for field in fields)


def ask_object(schema: JsonSchema, question: str, definitions: JsonSchema) -> dict[str, Any]:
    """A value for each field; an optional one is left out where the person just presses Enter."""
    say(question)
    required = schema.get("required", ())
    answer: dict[str, Any] = {}
    for name, field in schema["properties"].items():
        title = f"  {name}" + (f" ({field['description']})" if "description" in field else "")
        if name not in required and not ask_yes_or_no(f"{title}: set it?", default=False):
            continue
        answer[name] = ask_field(field, title, definitions=definitions)
    return answer


def ask_choice(choices: list[Any], question: str) -> Any:
    """One of the values, by its number or by itself."""
    say(question)
    for number, choice in enumerate(choices, start=1):
        say(f"  {number}. {choice}")
    while True:
        typed = ask_line("Which")
        for number, choice in enumerate(choices, start=1):
            if typed in (str(choice), str(number), value_line(choice)):
                return choice
        say(f"  {typed!r} is none of them: 1 to {len(choices)}")


def ask_json(question: str, kind: str, *, default: object) -> Any:
    """JSON of a kind: `integer`, `number`, or whatever the schema's own name for it is."""
    while True:
        typed = ask_line(f"{question} ({kind})", default=default)
        try:
            value = json.loads(typed)
        except ValueError:
            say(f"  {typed!r} is no JSON")
            continue
        if fits(value, kind):
            return value
        say(f"  {typed!r} is no {kind}")


def fits(value: object, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return True
