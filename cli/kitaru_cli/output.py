"""How a command's answer or error reaches its caller: the JSON contract, or text for people.

    {"command": "tag.move", "item": {...}}                            stdout
    {"command": "flows", "items": [...], "count": 2}                  stdout
    {"command": "tag.move", "error": {"type", "message", "hint"}}     stderr

With `--output json` nothing else is written to either.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Any, Protocol, TextIO

from kitaru_cli.tables import Part, dim, show
from kitaru_cli.words import indented, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitaru_registry.errors import KitaruError

QUIET_SECONDS = 1.0
"""Progress of what is done sooner is noise, where it would stay in a log."""

Json = Mapping[str, object]


class Format(StrEnum):
    text = "text"
    json = "json"


class Recorded(Protocol):
    """A frozen record of the registry."""

    def model_dump_json(self, *, by_alias: bool) -> str: ...


def nothing() -> Sequence[Part]:
    return ()


@dataclass(frozen=True)
class Answer:
    """What a command found or did, for both kinds of readers."""

    body: Callable[[], Json] | None
    """For scripts; None where everything was printed while it came."""
    text: Callable[[], Sequence[Part]]
    """For people, on stdout."""
    notes: Callable[[], Sequence[Part]] = nothing
    """For stderr, beside the text; JSON readers find the same in the body."""
    exit_code: int = 0


def item(
    record: Recorded | Json,
    text: Callable[[], Sequence[Part]],
    *,
    notes: Callable[[], Sequence[Part]] = nothing,
    exit_code: int = 0,
) -> Answer:
    return Answer(lambda: {"item": as_json(record)}, text, notes, exit_code)


def items(
    records: Sequence[Recorded | Json],
    text: Callable[[], Sequence[Part]],
    *,
    notes: Callable[[], Sequence[Part]] = nothing,
    exit_code: int = 0,
) -> Answer:
    def body() -> Json:
        return {"items": [as_json(record) for record in records], "count": len(records)}

    return Answer(body, text, notes, exit_code)


def at_most(count: int, limit: int, option: str) -> Sequence[Part]:
    """That a list ends where the option says, and not where there is nothing more."""
    return [dim(f"{limit} are shown, there may be more: {option}")] if count == limit else []


def streamed(exit_code: int) -> Answer:
    """Nothing more to say: the command printed what came while it came."""
    return Answer(None, nothing, exit_code=exit_code)


def as_json(record: Recorded | Json) -> object:
    if isinstance(record, Mapping):
        return record
    return plain(record)


def plain(value: Any) -> object:
    """The value as JSON has it, with what pydantic does not dump: text that is no Unicode, and more than 255 levels."""
    fields = getattr(type(value), "model_fields", None)
    try:
        # By way of text: that is where pydantic turns NaN, which is no JSON, into null.
        return json.loads(value.model_dump_json(by_alias=True)) if fields is not None else jsonable(value)
    except (ValueError, RecursionError):
        if fields is not None:
            return {field.alias or name: plain(getattr(value, name)) for name, field in fields.items()}
        # What a flow gave was made JSON when it was read; it has no record in it.
        return [plain(item) for item in value] if isinstance(value, tuple) else value


def jsonable(value: object) -> object:
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, by_alias=True)


def print_answer(command: str, answer: Answer, output: Format) -> None:
    if output is Format.json:
        if answer.body is not None:
            print_json({"command": command, **answer.body()}, sys.stdout)
        return
    show(answer.text())
    sys.stdout.flush()
    show(answer.notes(), sys.stderr)


def print_error(command: str, error: KitaruError, output: Format) -> None:
    detail: str | None = getattr(error, "detail", None)
    if output is Format.json:
        fields = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        print_json({"command": command, "error": fields | ({"detail": detail} if detail else {})}, sys.stderr)
        return
    lines = [f"{painted('kitaru:', '1;31', sys.stderr)} {visible(error.message)}"]
    if detail:
        lines += ["", detail.rstrip("\n"), ""]
    if error.hint:
        lines += [f"{painted('hint:', '1', sys.stderr)}   {visible(error.hint)}"]
    print("\n".join(lines), file=sys.stderr)


def print_json(body: Json, stream: IO[str]) -> None:
    """One line; indented where a person looks at it. ASCII, so that no locale can spoil it."""
    print(indented(body, ascii_only=True) if stream.isatty() else json.dumps(body), file=stream, flush=True)


def painted(text: str, code: str, stream: IO[str]) -> str:
    """The text with an SGR code around it, where the stream is a terminal and nobody asked for none."""
    plain = not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"


class Progress:
    """Says on stderr what is going on: one line that changes on a terminal; in a log, a line for each step that
    begins later than a second after the first; nothing for JSON readers."""

    def __init__(self, output: Format) -> None:
        self.silent = output is Format.json
        self.live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.began = time.monotonic()

    def __call__(self, message: str) -> None:
        if self.silent:
            return
        if self.live:
            width = shutil.get_terminal_size().columns - 3
            print(f"\r\x1b[2K{painted(message[:width] + ' …', '2', sys.stderr)}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.began > QUIET_SECONDS:
            print(message, file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.live and not self.silent:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


@contextmanager
def progress_for(output: Format) -> Iterator[Progress]:
    progress = Progress(output)
    try:
        yield progress
    finally:
        progress.clear()


def line_by_line(descriptor: int) -> TextIO:
    """A text stream on a descriptor that stays open when the stream goes."""
    encoding, errors = sys.stderr.encoding, sys.stderr.errors
    return open(descriptor, "w", buffering=1, encoding=encoding, errors=errors, closefd=False)


@contextmanager
def stdout_kept_for_json(output: Format) -> Iterator[None]:
    """While it lasts, what a flow in this process prints goes to stderr, if stdout is to be JSON alone."""
    if output is Format.text:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        # Both: what Python prints, and what its subprocesses do. A stream of its own: a log tells it from stderr.
        with redirect_stdout(line_by_line(2)):
            yield
            sys.stdout.flush()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
