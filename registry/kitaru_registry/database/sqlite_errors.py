"""What SQLite refuses, in the words of its user."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError, InterfaceError, ProgrammingError

from kitaru_registry.errors import KitaruBackendError, KitaruUsageError
from kitaru_registry.home import Home

UNFIT = (UnicodeEncodeError, OverflowError, InterfaceError, ProgrammingError)
"""What is raised for a value that no column holds; the last two are of other faults as well."""

DAMAGED = ("malformed", "is not a database", "Could not decode", "corrupt")
"""What SQLite says of a file that is not as Kitaru left it."""


@contextmanager
def explained(home: Home) -> Iterator[None]:
    """What SQLite refuses within this context is an error of ours.

    Raises:
        KitaruUsageError: a value that no column holds.
        KitaruBackendError: the disk, or the database, failed.
    """
    try:
        yield
    except UNFIT as error:
        raise unfit(home, error) from error
    except (sqlite3.Error, DBAPIError) as error:
        raise backend_error(home, error) from error


def unfit(home: Home, error: Exception) -> Exception:
    """What the caller is told of a value that no column holds."""
    if isinstance(error, UnicodeEncodeError):
        return KitaruUsageError(
            f"text that is no UTF-8 cannot be kept, nor looked for: {error.object[:100]!a}",
            hint="bytes of a file's name, or of another encoding, are in it",
        )
    if isinstance(error, DBAPIError):
        said = str(error.orig)
        if "bind" not in said:
            return backend_error(home, error)
        return KitaruUsageError(f"this cannot be kept, nor looked for: {said}")
    return KitaruUsageError(f"a number is too large: {error}")


def backend_error(home: Home, error: BaseException | None) -> KitaruBackendError:
    """A full disk, a lost permission, a busy or damaged database, in the words of its user."""
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    if "full" in said:
        return KitaruBackendError(
            f"the disk that holds {home.root} is full; nothing of this was written",
            hint=f"free some space: du -sh {home.root}/*",
        )
    if "readonly" in said or "unable to open" in said:
        return KitaruBackendError(
            f"the database {home.database} cannot be written: {said}",
            hint="set KITARU_HOME to a folder that you own",
        )
    if any(word in said for word in DAMAGED):
        return damaged(home, said)
    return KitaruBackendError(f"the database {home.database} failed: {said}", hint="kitaru doctor")


def damaged(home: Home, said: str) -> KitaruBackendError:
    file = home.database
    return KitaruBackendError(
        f"the database {file} is damaged: {said}",
        hint=f"end every runner, and put a backup in its place, or what can be read of it: sqlite3 {file} .recover "
        f"| sqlite3 {file.with_suffix('.recovered')}; see docs/operations.md",
    )


def read_json(home: Home, text: str) -> Any:
    """
    Raises:
        KitaruBackendError: it is none, and we wrote it: the database is damaged.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise damaged(home, f"a value in it is no JSON: {error}") from error
