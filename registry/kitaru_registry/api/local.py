"""A registry of this machine: one table says which function answers which request."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from kitaru_registry.api.holdings import Holdings
from kitaru_registry.api.request import Actor, Request

if TYPE_CHECKING:
    from kitaru_registry.database.opening import Database

T = TypeVar("T")

NOUNS = ("artifact", "execution", "tag", "version", "wait", "work")
"""Each has a module of requests, and one of the functions that answer them: a command imports those of its own."""

Answers = Mapping[type, Callable[[Holdings, Any, Actor], Any]]


class LocalRegistry:
    """Answers requests over a database of this machine (request.Registry)."""

    def __init__(self, database: Database) -> None:
        self.holdings = Holdings(database)

    def ask(self, request: Request[T], *, by: Actor) -> T:
        """See request.Registry."""
        answer: T = answers_beside(type(request).__module__)[type(request)](self.holdings, request, by)
        return answer


def answers_beside(requests: str) -> Answers:
    """The functions that answer the requests of a module."""
    answers: Answers = importlib.import_module(requests.removesuffix("requests") + "answers").ANSWERS
    return answers


def table() -> Answers:
    """Every request there is, and what answers it here."""
    found: dict[type, Callable[[Holdings, Any, Actor], Any]] = {}
    for noun in NOUNS:
        found |= answers_beside(f"{__package__}.{noun}_requests")
    return found
