"""What a deploy keeps of a flow is the code's own: no variable's value, and nothing of the machine or the moment."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from kitaru_registry.errors import KitaruDeployError

SHORTEST_VALUE_BYTES = 8
"""Shorter values of variables are in many a text by chance."""

HALF_A_DAY_SECONDS = 14 * 3600

Described = Mapping[str, Any]


def another_day() -> str:
    """A time zone (TZ) in which it is yesterday or tomorrow now."""
    here = time.localtime()
    shift = HALF_A_DAY_SECONDS if here.tm_hour >= 12 else -HALF_A_DAY_SECONDS
    east = round((here.tm_gmtoff + shift) / 3600)
    # POSIX counts westwards.
    return f"OTHER{-east:+d}"


def require_own(entrypoint: str, first: Described, again: Described, environment: Mapping[str, str]) -> None:
    """
    Args:
        again: what a second import has said; an error of that alone says nothing.
        environment: the first one's.

    Raises:
        KitaruDeployError: a schema holds the value of a variable, or differs between the two.
    """
    for name, value in environment.items():
        if name == "PYTHONUNBUFFERED" or len(value.encode(errors="replace")) < SHORTEST_VALUE_BYTES:
            continue
        for path, text in texts(first):
            if value in text:
                raise KitaruDeployError(
                    f"{place_of(path)} of {entrypoint} holds the value of the environment variable {name}, and a "
                    "snapshot keeps no values of variables",
                    hint=f"read it inside the flow; a default of None can stand for {name}",
                )
    if "error" in again:
        return
    told = dict(texts(again))
    for path, text in texts(first):
        if told.get(path) != text:
            raise KitaruDeployError(
                f"{place_of(path)} of {entrypoint} is another one at each import: it depends on the time, on chance or "
                "on the home folder, and would make a new version of the same code",
                hint="make it inside the flow; a default of None can stand for it",
            )


def texts(described: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each value of a description, and each name, with where it stands."""
    if isinstance(described, dict):
        for name, inner in described.items():
            yield (*path, name, "name"), name
            yield from texts(inner, (*path, name))
    elif isinstance(described, list):
        for number, inner in enumerate(described):
            yield from texts(inner, (*path, str(number)))
    else:
        yield path, described if isinstance(described, str) else json.dumps(described)


def place_of(path: tuple[str, ...]) -> str:
    """In the words of whoever wrote the flow."""
    match path:
        case ("input_schema", "properties", name, "default", *_):
            return f"the default of {name}"
        case ("input_schema", "properties", name, *_):
            return f"the type of {name}"
        case ("input_schema", "$defs", name, *_):
            return f"{name}, which a parameter's type names,"
        case ("output_schema", *_):
            return "the type of what is returned"
        case (name, *_):
            return f"{name}="
    return "the description"
