"""The keys of a TypedDict, each with its type, and whether it must be there. Standard library only."""

from __future__ import annotations

import typing
from typing import Any, NamedTuple


class Key(NamedTuple):
    hint: Any
    is_required: bool


def keys_of(typed_dict: Any) -> dict[str, Key]:
    return {
        name: key_of(hint, is_required=name in typed_dict.__required_keys__)
        for name, hint in typing.get_type_hints(typed_dict, include_extras=True).items()
    }


def key_of(hint: Any, *, is_required: bool) -> Key:
    """By its own marker first: under `from __future__ import annotations` the class itself has not seen it."""
    marker = typing.get_origin(hint)
    if marker in (typing.Required, typing.NotRequired):
        return Key(typing.get_args(hint)[0], marker is typing.Required)
    return Key(hint, is_required)
