"""Every verb of the registry is a request: a frozen question, with the type of its answer.

    registry.ask(MoveTag(project="default", flow="review", tag="stable", version=3), by=Actor("ada@host"))  # a TagMove

A request is a plain dataclass of JSON's types, dates, and such dataclasses: made here it costs nothing and imports
nothing, and pydantic reads the same class, its fields and its docstring, where one comes in from outside
(`TypeAdapter(MoveTag)` checks a body and describes it). Its docstring says what it raises.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Request(Generic[T_co]):
    """A question whose answer is a `T_co`."""


@dataclass(frozen=True)
class Actor:
    """Who asks."""

    name: str
    """As histories show it: `ada@host`."""


class Registry(Protocol):
    """Whoever answers requests, on this machine or elsewhere."""

    def ask(self, request: Request[T], *, by: Actor) -> T:
        """The answer, as one transaction gives it.

        Raises:
            KitaruError: what the request's docstring says; nothing was changed then.
            KitaruBackendError: the registry cannot be reached, read or written.
        """


def answer_type(request: type[Request[Any]]) -> Any:
    """What the request is answered with, as an annotation: `TagMove`, `list[TagState]`."""
    for base in getattr(request, "__orig_bases__", ()):
        if typing.get_origin(base) is Request:
            return typing.get_args(base)[0]
    raise TypeError(f"{request.__name__} does not say what it is answered with")
