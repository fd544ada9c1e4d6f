"""Options that are more than a word: JSON values, moments, filters. Each says what it could not read."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from kitaru_registry.errors import KitaruNotFoundError, KitaruUsageError

SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def json_value(text: str, *, option: str) -> Any:
    """The value of an option that takes `JSON`, `@file` or `-` (stdin).

    Raises:
        KitaruUsageError: no JSON. NaN and Infinity are none either (RFC 8259).
        KitaruNotFoundError: there is no such file.
    """
    source, content = read(text, option)
    try:
        return json.loads(content, parse_constant=refuse_constant)
    except ValueError as error:
        raise KitaruUsageError(
            f"{source} is no JSON: {error}", hint=json_hint(text, option)
        ) from error  # fmt: skip
    except RecursionError as error:
        raise KitaruUsageError(f"{source} is nested too deeply: some hundred levels are the most") from error


def read(text: str, option: str) -> tuple[str, str]:
    if text == "-":
        try:
            return f"{option} from stdin", sys.stdin.read()
        except UnicodeDecodeError as error:
            raise KitaruUsageError(f"{option} from stdin is no {error.encoding} text: {error.reason}") from error
    if not text.startswith("@"):
        return f"the value of {option}", text
    path = Path(text[1:])
    try:
        return f"{path}, named by {option},", path.read_text(encoding="utf-8")
    except OSError as error:
        raise KitaruNotFoundError(
            f"cannot read {path}, named by {option}: {error.strerror}",
            hint=f"{option} takes JSON, @FILE, or - for stdin",
        ) from error
    except UnicodeDecodeError as error:
        raise KitaruUsageError(f"{path}, named by {option}, is no UTF-8 text") from error
    except ValueError as error:  # a NUL in it
        raise KitaruUsageError(f"{option} {text!r} names no file: {error}") from error


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not in JSON")


def json_hint(text: str, option: str) -> str:
    if text.startswith("@") or text == "-":
        return f"{option} takes JSON, @FILE, or - for stdin"
    if re.fullmatch(r"[\w .,!?-]+", text):
        return f"text needs its quotes: {option} '{json.dumps(text)}'"
    return f'quote it for the shell: {option} \'{{"name": "value"}}\''


def json_inputs(text: str | None) -> dict[str, Any]:
    """The inputs of a flow: a JSON object of parameter names; none at all where the option is missing."""
    if text is None:
        return {}
    value = json_value(text, option="--input")
    if not isinstance(value, dict):
        raise KitaruUsageError(
            f"--input is {kind_of(value)}; a flow takes an object of its parameters",
            hint='--input \'{"parameter": "value"}\'',
        )
    return value


def json_overrides(text: str | None) -> dict[str, Any]:
    """What `--overrides` holds: a JSON object; none at all where the option is missing."""
    if text is None:
        return {}
    value = json_value(text, option="--overrides")
    if not isinstance(value, dict):
        raise KitaruUsageError(
            f"--overrides is {kind_of(value)}; it takes an object of outcomes",
            hint='--overrides \'{"checkpoint.NAME": "value", "wait.NAME": true}\'',
        )
    return value


def kind_of(value: object) -> str:
    kinds = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), "null")


def since_moment(text: str | None, seen_from: datetime) -> datetime | None:
    """What `--since` says; see `moment_of`."""
    return moment_of(text, seen_from, option="--since")


def moment_of(text: str | None, seen_from: datetime, *, option: str) -> datetime | None:
    """`30m`, `2h`, `7d` before now, or an ISO date or time; local where it names no offset."""
    if text is None:
        return None
    span = re.fullmatch(r"(\d{1,9})([smhdw])", text)
    try:
        if span:
            return seen_from - timedelta(seconds=int(span[1]) * SECONDS[span[2]])
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise KitaruUsageError(
            f"{option} {text!r} is no time", hint=f"{option} 2h, {option} 7d, or {option} 2026-01-31T12:00"
        ) from error


def filters(pairs: Sequence[str] | None) -> dict[str, str] | None:
    """`key=value` each; None where there is none."""
    found: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise KitaruUsageError(f"--where {pair!r} is not key=value", hint="--where topic=agents")
        found[key] = value
    return found or None


def one_of(text: str | None, choices: Sequence[str], *, option: str) -> str | None:
    if text is None or text in choices:
        return text
    near = difflib.get_close_matches(text, choices, n=1)
    raise KitaruUsageError(
        f"{option} {text!r} is none of {', '.join(choices)}", hint=f"did you mean {near[0]}?" if near else None
    )
