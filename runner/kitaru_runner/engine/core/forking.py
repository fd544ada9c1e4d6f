"""Processes that are forked while an execution runs in this one: nothing that keeps the execution is theirs.

A fork gets a copy of all that its parent has, and may outlive it: with the journal's socket it would keep a dead parent
from being missed, with the lock nobody could take the execution over, and what it wrote would be the parent's. So
descriptors that were named here are closed in it, its attempts refuse whatever is asked of them, and where the user's
code comes to an end in it, it ends.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn

from kitaru_registry.errors import KitaruContextError

_attempts: weakref.WeakSet[Any] = weakref.WeakSet()
_dropped: dict[object, Callable[[], None]] = {}
"""What a fork does first, by what it is about."""
_endings: dict[Callable[[], None], None] = {}
"""What it does last."""


class LeftToParent:
    """What an attempt is in a process that was forked while it ran: its execution is the parent's alone."""

    exec_id: str

    def admit(self, name: str, what: str = "") -> NoReturn:
        refuse(f"{what} {name} was called".lstrip())

    def __getattr__(self, name: str) -> NoReturn:
        refuse("Kitaru was called")


def refuse(what: str) -> NoReturn:
    raise KitaruContextError(
        f"{what} in process {os.getpid()}, which was forked from the flow's: it has no journal",
        hint="call plain functions there, a checkpoint's as NAME.function, or do it in the flow's own process",
    )


def check_not_forked(attempt: object, what: str) -> None:
    """
    Raises:
        KitaruContextError: this process was forked while the attempt ran.
    """
    if type(attempt) is LeftToParent:
        refuse(f"{what} was called")


def watch(attempt: object) -> None:
    """Let the attempt refuse whatever is asked of it in processes that are forked from now on."""
    _watch_forks()
    _attempts.add(attempt)


def drop_in_forks(about: object, drop: Callable[[], None]) -> None:
    """Call that first in each process that is forked from now on."""
    _watch_forks()
    _dropped[about] = drop


def end_in_forks(end: Callable[[], None]) -> None:
    """Call that last in each process that is forked, and in which user code comes to its end."""
    _endings[end] = None


def close_in_forks(descriptor: int) -> None:
    """Keep a descriptor from each process that is forked from now on."""
    drop_in_forks(descriptor, partial(close_same, descriptor, identity_of(descriptor)))


def keep(about: object) -> None:
    """It is gone, or may be a fork's too: forks do nothing about it any more."""
    _dropped.pop(about, None)


def close_what_was_given(*, but: int | None = None) -> None:
    """Keep the descriptors that this process was started with from all processes that it starts, forked or not.

    Args:
        but: one that forks are to have, and no other.
    """
    for descriptor in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
        if descriptor <= 2:
            continue
        try:
            os.set_inheritable(descriptor, False)
        except OSError:
            continue  # it was that of the listing
        if descriptor != but:
            close_in_forks(descriptor)


def is_left_to_parent(attempt: object) -> bool:
    """Whether this process was forked while the attempt ran."""
    return type(attempt) is LeftToParent


def end_fork(error: BaseException | None = None) -> NoReturn:
    """End this process, in which the user's code has returned or raised: as Python ends one, without exit handlers."""
    code: object = 0
    if isinstance(error, SystemExit):
        code = 0 if error.code is None else error.code
        if not isinstance(code, int):
            code = complain(str(code))
    elif error is not None:
        import traceback

        code = complain("".join(traceback.format_exception(error)).rstrip("\n"))
    assert isinstance(code, int)
    for end in _endings:
        end()
    flush()
    os._exit(code & 0xFF)


def flush() -> None:
    """What stdout and stderr hold is written, as far as they are still there and take it."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except Exception:  # closed, replaced or taken away by user code
            pass


def complain(text: str) -> int:
    try:
        print(text, file=sys.stderr)
    except Exception:  # whatever has become of the stream
        pass
    return 1


def identity_of(descriptor: int) -> tuple[int, int]:
    known = os.fstat(descriptor)
    return known.st_dev, known.st_ino


def close_same(descriptor: int, identity: tuple[int, int]) -> None:
    """Close it, if its number is no other file's by now."""
    try:
        if identity_of(descriptor) == identity:
            os.close(descriptor)
    except OSError:
        pass  # somebody has closed it


@cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_begin_fork)


def _begin_fork() -> None:
    while _dropped:
        _dropped.popitem()[1]()
    for attempt in list(_attempts):
        executing = vars(attempt).get("executing")
        if executing is not None:
            executing.is_forked = True
        attempt.__class__ = LeftToParent
    _attempts.clear()
