"""Flows that fail with what is hard to describe."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from kitaru import checkpoint, flow


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Odd(Exception):
    @property
    def __notes__(self) -> list[str]:
        raise LookupError("notes")


class Stop(BaseException):
    pass


def mute() -> BaseException:
    return Mute("said nothing")


def holds_itself() -> BaseException:
    error = ValueError()
    error.args = (error,)
    return error


def came_from_many(link: str) -> BaseException:
    first = error = ValueError("last")
    for number in range(2_000):
        following = ValueError(f"cause {number}")
        setattr(error, link, following)
        error = following
    return first


def causes() -> BaseException:
    return came_from_many("__cause__")


def contexts() -> BaseException:
    return came_from_many("__context__")


def circle() -> BaseException:
    """A group whose members came from the group."""
    members = [ValueError(str(number)) for number in range(15)]
    group = ExceptionGroup("circle", members)
    for member in members:
        member.__cause__ = group
    return group


def many() -> BaseException:
    return ExceptionGroup("many", [ValueError("x" * 50_000) for _ in range(3_000)])


def deep() -> BaseException:
    nested: list[Any] = []
    for _ in range(50_000):
        nested = [nested]
    return ValueError(nested)


def odd_attributes() -> BaseException:
    error = Odd("odd")
    error.__dict__.update({f"field{number}": "x" * 60_000 for number in range(1_000)})
    return error


def stops() -> BaseException:
    return Stop("not an Exception")


def interrupts() -> BaseException:
    return KeyboardInterrupt("by hand")


def exits() -> BaseException:
    return SystemExit(3)


def surrogates() -> BaseException:
    return ValueError("r\udce9sum\udce9", "\0")


KINDS: dict[str, Callable[[], BaseException]] = {
    made.__name__: made
    for made in (
        mute, holds_itself, causes, contexts, circle, many, deep, odd_attributes, stops, interrupts, exits, surrogates,
    )
}  # fmt: skip


@checkpoint
def fails(kind: str) -> int:
    raise KINDS[kind]()


@checkpoint(runtime="isolated")
def fails_isolated(kind: str) -> int:
    raise KINDS[kind]()


@checkpoint(runtime="isolated")
def closes_output(how: str) -> str:
    if how == "close":
        sys.stdout.close()
    else:
        sys.stdout = None
    return "done"


@flow
def fail_in_body(kind: str) -> int:
    raise KINDS[kind]()


@flow
def fail_isolated(kinds: list[str]) -> list[str]:
    found = []
    for kind in kinds:
        try:
            fails_isolated(kind, id=kind)
        except BaseException as error:
            found.append(f"{kind}: {type(error).__name__}")
    return found


@flow
def outputs_closed() -> list[str]:
    return [closes_output("close"), closes_output("none")]
