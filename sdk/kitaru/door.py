"""The door of the SDK: what a public method is given is of the kind that its signature says, and of a size that can be.

So what is behind it meets no text without a UTF-8 form, no number beyond the database's, and no NaN for a time.
"""

from __future__ import annotations

import errno
import functools
import inspect
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.names import LONGEST_TEXT, check_text

C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., Any])

LARGEST = 2**62
"""Of whole numbers: what a database holds, and room for a product's sum."""

WHOLE_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

WIDTH = 60
"""Characters of a wrong value that an error shows."""


def checked_methods(kind: type[C]) -> type[C]:
    """The class, whose public methods refuse what is not what their signatures say (KitaruUsageError)."""
    for name, method in list(vars(kind).items()):
        if inspect.isfunction(method) and not name.startswith("_"):
            setattr(kind, name, checked(method))
    return kind


def checked(method: F) -> F:
    """The method, which begins only if every argument is what its signature says.

    Raises:
        KitaruUsageError: one is not.
        TypeError: the call does not fit the signature.
    """

    # What is known of a method is made at its first call: most are never called, and importing is to cost nothing.
    @functools.cache
    def known() -> tuple[inspect.Signature, dict[str, tuple[str, ...]]]:
        signature = inspect.signature(method)
        return signature, {each.name: kinds_of(each) for each in signature.parameters.values()}

    @functools.wraps(method)
    def call(self: object, /, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs:
            signature, kinds = known()
            for name, value in signature.bind(self, *args, **kwargs).arguments.items():
                several = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
                for each in value if several else (value,):
                    check(name, each, kinds[name])
        return method(self, *args, **kwargs)

    return cast(F, call)


def kinds_of(parameter: inspect.Parameter) -> tuple[str, ...]:
    """The kinds that a parameter is declared as; none where anything goes."""
    if parameter.annotation is inspect.Parameter.empty or parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return ()
    kinds = tuple(part.strip() for part in str(parameter.annotation).split(" | "))
    return () if "Any" in kinds else kinds


def check(name: str, value: object, kinds: Sequence[str]) -> None:
    """
    Raises:
        KitaruUsageError: the value is of none of these kinds, or one that nothing could be done with.
    """
    if not kinds or (value is None and "None" in kinds):
        return
    fitting = [TAKEN[kind] for kind in kinds if kind in TAKEN and TAKEN[kind].fits(value)]
    if not fitting:
        asked = " or ".join(TAKEN[kind].called if kind in TAKEN else kind for kind in kinds)
        raise KitaruUsageError(f"{name}= is of type {type(value).__name__}", hint=f"give {asked}")
    fitting[0].check(f"{name}=", value)


class Taken:
    """What is taken for a kind.

    Args:
        called: how a hint says it.
    """

    def __init__(
        self, called: str, fits: Callable[[Any], bool], check: Callable[[str, Any], object] = lambda name, value: None
    ) -> None:
        self.called, self.fits, self.check = called, fits, check


def is_of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_any_text(name: str, value: str) -> None:
    check_text(name, value, most=LONGEST_TEXT)


def check_whole_id(name: str, value: str) -> None:
    if not WHOLE_ID.fullmatch(value):
        raise KitaruUsageError(f"{name} {value[:WIDTH]!a} is no whole id of an execution", hint="give handle.exec_id")


def check_size(name: str, value: float) -> None:
    if isinstance(value, int) and abs(value) > LARGEST:
        raise KitaruUsageError(f"{name} is a number of {value.bit_length()} bits", hint="62 bits are the most")
    if math.isnan(value):
        raise KitaruUsageError(f"{name} is not a number", hint="give a number")


def check_path(name: str, value: Path) -> None:
    """Refuse what cannot be the path of anything; whether something is there is another question."""
    try:
        os.lstat(value)
    except (OSError, ValueError) as error:
        # Of a NUL, or of text that no file name's bytes decode to.
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            raise KitaruUsageError(f"{name} can be no path: {str(value)[:WIDTH]!a}", hint="give a path") from error


def check_names(name: str, value: Mapping[Any, Any]) -> None:
    for key in value:
        if not isinstance(key, str):
            raise KitaruUsageError(f"{name} has a key of type {type(key).__name__}", hint="give texts as keys")


def check_pairs(name: str, value: Mapping[Any, Any]) -> None:
    for key, text in value.items():
        check_any_text(f"a key of {name}", key)
        check_any_text(f"{name}{{{key[:WIDTH]!a}}}", text)


def check_texts(name: str, value: Sequence[Any]) -> None:
    for text in value:
        check_any_text(f"one of {name}", text)


def is_named(name: str) -> Callable[[Any], bool]:
    """Whether a value is of a class of that name: what would be slow to import is not imported to look."""
    return lambda value: any(kind.__name__ == name for kind in type(value).__mro__)


TEXT = Taken("a text", is_of(str), check_any_text)
CALLED = Taken("a function", callable)

TAKEN: Mapping[str, Taken] = {
    "str": TEXT,
    "Action": TEXT,
    "ExecutionId": Taken("the whole id of an execution", is_of(str), check_whole_id),
    "int": Taken("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool), check_size),
    "float": Taken("a number", is_number, check_size),
    "bool": Taken("True or False", is_of(bool)),
    "datetime": Taken("a datetime", is_of(datetime)),
    "Path": Taken("a Path", is_of(Path), check_path),
    "Mapping[str, str]": Taken("a dict of texts", is_of(Mapping), check_pairs),
    "Mapping[str, Any]": Taken("a dict", is_of(Mapping), check_names),
    "Mapping[str, bool]": Taken("a dict", is_of(Mapping), check_names),
    "Sequence[str]": Taken("a list of texts", is_of(list, tuple), check_texts),
    "Sequence[ExecutionId]": Taken("a list of whole ids", is_of(list, tuple), check_texts),
    "Work": Taken("Work", is_named("Work")),
    "Callable[[str], None]": CALLED,
    "Done": CALLED,
    "Home": Taken("a Home", is_named("Home")),
    "Execution": Taken("an Execution", is_named("Execution")),
    "FlowOptions": Taken("FlowOptions", is_named("FlowOptions")),
    "Session": Taken("a KitaruClient", is_named("Session")),
}
"""By how an annotation writes it."""
