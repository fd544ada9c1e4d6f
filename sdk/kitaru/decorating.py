"""What `@flow` and `@checkpoint` can be written above."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from kitaru_registry.errors import KitaruUsageError
from kitaru_runner import signatures


class Decorated:
    """What one of the decorators has made."""

    decorator: ClassVar[str]


def require_function(given: Any, decorator: str) -> None:
    """
    Raises:
        KitaruUsageError: it cannot be called, or not as one call with one outcome.
    """
    if isinstance(given, Decorated):
        raise KitaruUsageError(
            f"{decorator} stands above {given.decorator}, for one function", hint=f"leave one of them: {DIFFERENCE}"
        )
    if isinstance(given, classmethod):
        raise KitaruUsageError(
            f"{decorator} stands above @classmethod", hint=f"write @classmethod first, and {decorator} below it"
        )
    if not callable(given):
        raise KitaruUsageError(
            f"{decorator} got {given!r}, which is no function",
            hint=f"write it above a def, with options by name: {decorator}(retries=2)",
        )
    if inspect.isgeneratorfunction(given) or inspect.isasyncgenfunction(given):
        raise KitaruUsageError(
            f"{name_of(given)} is a generator, and {decorator} records one outcome", hint="return a list of its values"
        )


def signature_of(function: Callable[..., Any], decorator: str) -> inspect.Signature:
    """
    Raises:
        KitaruUsageError: Python does not know it, as of some functions that are written in C.
    """
    try:
        return signatures.signature_of(function)
    except ValueError as error:
        raise KitaruUsageError(
            f"{decorator} got {name_of(function)}, whose parameters Python does not know",
            hint="call it in a function of your own, with a def",
        ) from error


def name_of(function: Any) -> str:
    return str(getattr(function, "__qualname__", function))


def own_name(function: Any) -> str:
    """What a call of it is called: its own name, that of what a partial calls, or that of an object's class."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__)).strip("<>")


DIFFERENCE = "a flow is started with .run(), and a checkpoint is called in one"
