"""What `@flow` and `@checkpoint` can be written above."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar, SupportsIndex

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.names import told
from kitaru_runner.values import signatures


class Decorated:
    """What one of the decorators has made."""

    decorator: ClassVar[str]

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """As a function is pickled: by name, or as an attribute of its object. cloudpickle carries it whole."""
        # A pickler in C has no frame of its own: this one is of what has called it.
        if is_cloudpickle(sys._getframe(1)):
            return super().__reduce_ex__(protocol)
        return name_in_module(self) or attribute_of_object(self) or super().__reduce_ex__(protocol)


def name_in_module(decorated: Any) -> str | None:
    """By which its module gives it."""
    name = str(getattr(decorated, "__qualname__", ""))
    found: Any = sys.modules.get(decorated.__module__)
    for part in name.split("."):
        found = getattr(found, part, None)
    return name if found is decorated else None


def attribute_of_object(decorated: Any) -> tuple[Any, ...] | None:
    """How to get it of the object whose class has it."""
    bound = decorated.function
    if not isinstance(bound, functools.partial) or len(bound.args) != 1 or bound.keywords:
        return None
    instance, name = bound.args[0], getattr(bound, "__name__", "")
    found: Any = inspect.getattr_static(type(instance), name, None)
    return (
        (getattr, (instance, name)) if isinstance(found, Decorated) and vars(found)["function"] is bound.func else None
    )


def is_cloudpickle(frame: FrameType) -> bool:
    """Whether it pickles: for a process that may have another `__main__`, or none of the modules."""
    return "cloudpickle" in str(frame.f_globals.get("__name__"))


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
            f"{decorator} got {told(given)}, which is no function",
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
