"""Values that only pickle carries, and who may read one. The only file that imports cloudpickle."""

from __future__ import annotations

import importlib
import io
import operator
import sys
from typing import Any

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.journal.entries import Encoded
from kitaru_runner.values.named_types import is_named, type_name
from kitaru_runner.values.surroundings import here

PICKLE = f"pickle-{sys.version_info.major}.{sys.version_info.minor}"

INSTEAD = {
    "coroutine": "await it; a flow that is no async def calls an asynchronous checkpoint by .submit(...).result()",
    "generator": "return a list of its values",
    "async_generator": "return a list of its values",
    "CheckpointFuture": "return its result()",
}
"""What to write where there is no codec, by the type's name."""


def may_pickle() -> bool:
    """What `[values] pickle` says for the flow that runs here."""
    where = here.get()
    return where is None or where.may_pickle


def pickled(value: object) -> Encoded:
    """The value's pickle, which can be read again.

    Raises:
        KitaruUsageError: pickles are forbidden, or it has none.
    """
    if not may_pickle():
        raise pickles_forbidden(f"a value of type {type_name(type(value))}")
    try:
        data = dumped(value)
    except Exception as error:
        raise not_carried(value, error) from error
    try:
        loaded(data)
    except Exception as error:
        raise not_carried(value, f"its pickle cannot be read: {type(error).__name__}: {error}") from error
    return Encoded(PICKLE, data)


def loaded(data: bytes) -> Any:
    return importlib.import_module("cloudpickle").loads(data)


def not_carried(value: object, why: object) -> KitaruUsageError:
    return KitaruUsageError(
        f"no codec carries a value of type {type_name(type(value))}: {why}",
        hint=INSTEAD.get(
            type(value).__name__,
            "return plain data, a dataclass or a pydantic model; open files and connections where they are used",
        ),
    )


def dumped(value: object) -> bytes:
    main = sys.modules["__main__"]
    if not hasattr(main, "__kitaru_name__"):
        return bytes(importlib.import_module("cloudpickle").dumps(value))
    buffer = io.BytesIO()
    by_name_pickler()(buffer).dump(value)
    return buffer.getvalue()


def by_name_pickler() -> Any:
    """cloudpickle, which writes a script's classes whole, so that a later process has others of the same name."""
    pickler: Any = importlib.import_module("cloudpickle").Pickler

    class ByName(pickler):  # type: ignore[misc]  # its base is Any
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, type) and value.__module__ == "__main__" and is_named(value):
                module, _, qualname = type_name(value).partition(":")
                return operator.attrgetter(qualname), (Module(module),)
            return super().reducer_override(value)

    return ByName


class Module:
    """Is read from a pickle as the module of that name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> Any:
        return importlib.import_module, (self._name,)


def is_pickle(encoded: Encoded) -> bool:
    return encoded.codec.startswith("pickle-")


def refuse_pickle(encoded: Encoded, what: str) -> None:
    """
    Raises:
        KitaruUsageError: it is pickled, and `[values] pickle = "forbid"`.
    """
    if is_pickle(encoded):
        raise pickles_forbidden(what)


def pickles_forbidden(what: str) -> KitaruUsageError:
    return KitaruUsageError(
        f'only pickle carries {what}, and [values] pickle = "forbid"',
        hint="use plain data, a dataclass or a pydantic model, or register a codec: kitaru.register_codec(...)",
    )


def distrust_pickle(encoded: Encoded, what: str) -> None:
    """
    Raises:
        KitaruUsageError: it is pickled: reading it runs code of whoever wrote it.
    """
    if is_pickle(encoded):
        raise KitaruUsageError(
            f"{what} is pickled, and another user's home holds it: reading it would run that user's code",
            hint="if you trust whoever wrote it: trust_pickle=True",
        )
