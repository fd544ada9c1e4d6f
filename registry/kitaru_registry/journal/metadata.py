"""How what was logged adds up. Standard library only: every child imports this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge_metadata(into: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`log(...)`: mappings merge, anything else is replaced by the last."""
    merged = dict(into)
    for key, value in new.items():
        before = merged.get(key)
        both = isinstance(before, dict) and isinstance(value, dict)
        merged[key] = merge_metadata(before, value) if both and before is not None else value
    return merged
