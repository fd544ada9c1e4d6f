"""The grammar of keys: which call of an execution one names.

A key is a path of scopes, and within the last of them a name with its ordinal from the second on: `submit[0]/step#2`.
Standard library only.
"""

from __future__ import annotations

from typing import NamedTuple

PAUSE = "/pause@"
"""In the key of the timer between two tries of a checkpoint, after that one's."""


class Call(NamedTuple):
    """One call in a scope: its key, its name and how many calls the scope had made before."""

    key: str
    name: str
    scope: str
    place: int


def scope_of(key: str) -> str:
    head, slash, _ = key.rpartition("/")
    return head + slash
