"""`cache=True`: what a function holds is part of which call it is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from kitaru import checkpoint, flow, testing
from kitaru.flows import Flow


class Opaque:
    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, x: int) -> int:
        return x + self.n


@dataclass
class Adder:
    n: int

    def __call__(self, x: int) -> int:
        return x + self.n

    def add(self, x: int) -> int:
        return x + self.n


def plus(n: int, x: int) -> int:
    return x + n


def wrapped(function: Callable[[int], int]) -> Callable[[int], int]:
    @functools.wraps(function)
    def around(x: int) -> int:
        return function(x)

    return around


def closing_over(n: int) -> Callable[[int], int]:
    def add(x: int) -> int:
        return x + n

    return add


def with_default(n: int) -> Callable[[int], int]:
    def add(x: int, n: int = n) -> int:
        return x + n

    return add


def with_keyword_default(n: int) -> Callable[[int], int]:
    def add(x: int, *, n: int = n) -> int:
        return x + n

    return add


def through_another(n: int) -> Callable[[int], int]:
    inner = checkpoint(closing_over(n))

    def add(x: int) -> int:
        return inner.function(x)

    return add


def of_other_code(n: int) -> Callable[[int], int]:
    return (lambda x: x + 1) if n == 1 else (lambda x: x + 100)


MAKERS: dict[str, Callable[[int], Callable[[int], int]]] = {
    "closure": closing_over,
    "partial": lambda n: functools.partial(plus, n),
    "partial by keyword": lambda n: functools.partial(plus, x=n),
    "lambda's default": lambda n: lambda x, n=n: x + n,
    "default": with_default,
    "keyword's default": with_keyword_default,
    "code": of_other_code,
    "wrapper's function": lambda n: wrapped(closing_over(n)),
    "lru_cache's function": lambda n: functools.lru_cache(closing_over(n)),
    "checkpoint in a closure": through_another,
    "object": lambda n: Adder(n),
    "bound method": lambda n: Adder(n).add,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))
def test_functions_that_hold_other_things_are_other_functions(make: Callable[[int], Callable[[int], int]]) -> None:
    @flow
    def each() -> list[int]:
        return [checkpoint(cache=True)(make(n))(10) for n in (1, 100, 1, 100)]

    outcome = testing.run(each)

    assert outcome.result == [11, 110, 11, 110]
    assert sum(outcome.calls.values()) == 2
    assert outcome.warnings == ()


def test_a_function_that_calls_itself_is_one_function() -> None:
    def factorial_of() -> Any:
        @checkpoint(cache=True)
        def factorial(n: int) -> int:
            return 1 if n < 2 else n * int(factorial.function(n - 1))

        return factorial

    @flow
    def twice() -> list[int]:
        return [factorial_of()(4), factorial_of()(4)]

    outcome = testing.run(twice)

    assert outcome.result == [24, 24]
    assert outcome.calls["factorial"] == 1


@flow
def holding_something_opaque() -> list[int]:
    return [checkpoint(cache=True)(Opaque(n))(10) for n in (1, 100, 1)]


@checkpoint(cache=True)
def read(source: Opaque) -> int:
    return source.n


@flow
def given_something_opaque() -> list[int]:
    return [read(Opaque(n)) for n in (11, 110, 11)]


@pytest.mark.parametrize(
    ("uncached", "said"),
    [
        (holding_something_opaque, "checkpoint Opaque is not cached: a value of type Opaque that its function holds"),
        (given_something_opaque, "checkpoint read is not cached: an argument has no canonical form"),
    ],
    ids=["function", "argument"],
)
def test_what_has_no_canonical_form_is_not_cached_and_said_once(uncached: Flow[..., list[int]], said: str) -> None:
    outcome = testing.run(uncached, crash_at=3)

    assert outcome.result == [11, 110, 11]
    (warning,) = outcome.warnings
    assert warning.startswith(said)
