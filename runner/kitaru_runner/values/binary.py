"""Values whose type has a codec to itself, that is no JSON: numpy, pandas, one that was registered, a pickle."""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.journal.entries import Encoded
from kitaru_runner.values import registered as custom
from kitaru_runner.values.pickles import PICKLE, loaded


class NotTaggable(Exception):
    """The value holds something that the tagged codec does not carry."""


def encode(value: object, kind: type) -> Encoded | None:
    """The bytes of a value whose type has a codec to itself; None: it has none."""
    if kind in custom.by_type:
        return custom.encode(value)
    if is_numpy(value):
        return Encoded("numpy", numpy_bytes(value))
    if is_pandas(kind):
        try:
            return Encoded("pandas", frames().encode(value))
        except NotTaggable:
            return None
    return None


def decode(encoded: Encoded) -> Any:
    """
    Raises:
        KitaruUsageError: another Python minor pickled it, or this Kitaru does not know the codec.
    """
    match encoded.codec:
        case "numpy":
            return importlib.import_module("numpy").load(io.BytesIO(encoded.data), allow_pickle=False)
        case "pandas":
            return frames().decode(encoded.data)
        case codec if codec == PICKLE:
            return loaded(encoded.data)
        case codec if codec.startswith("pickle-"):
            raise KitaruUsageError(
                f"the value was pickled by Python {codec.removeprefix('pickle-')}, "
                f"and this is {PICKLE.removeprefix('pickle-')}",
                hint="read it with the Python that wrote it, or return a type with a codec: docs/concepts.md, values",
            )
        case codec if "." in codec:
            return custom.decode(codec, encoded.data)
        case codec:
            raise KitaruUsageError(f"unknown codec {codec}", hint="upgrade Kitaru: a newer one wrote the value")


def is_pandas(kind: type) -> bool:
    return "pandas" in sys.modules and kind.__module__.partition(".")[0] == "pandas"


def frames() -> Any:
    """Loaded at need: flows without pandas never see it."""
    return importlib.import_module("kitaru_runner.values.pandas_values")


def is_numpy(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and not value.dtype.hasobject


def numpy_bytes(value: object) -> bytes:
    buffer = io.BytesIO()
    importlib.import_module("numpy").save(buffer, value, allow_pickle=False)
    return buffer.getvalue()
