"""Types by their names: how a recorded value says which class it is of, and how that class is found again."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def type_name(kind: type) -> str:
    """`module:qualified.name`; a script's `__main__` under the name that a deploy gives its module."""
    module = kind.__module__
    if module == "__main__":
        module = getattr(sys.modules["__main__"], "__kitaru_name__", module)
    return f"{module}:{kind.__qualname__}"


def find_type(path: str) -> type | None:
    module_name, _, qualname = path.partition(":")
    try:
        found: Any = sys.modules.get(module_name) or importlib.import_module(module_name)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError):
        return None
    return found if isinstance(found, type) else None


def is_named(kind: type) -> bool:
    """Whether the type's name leads to it, in this process as in any other that has the code."""
    return find_type(type_name(kind)) is kind
