"""What PostgreSQL refuses, in the words of its user: one line, without a password."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from kitaru_registry.errors import KitaruBackendError, KitaruUsageError

LOST = ("08", "57P01", "57P02", "57P03", "25P03", "57P05")
"""Classes of states after which a connection is gone: of connections, and of a server that ends or begins."""

UNFIT = ("22",)
BUSY = ("55P03", "40P01", "40001")
MISSING = ("42P01", "42703", "42883")
FULL = ("53100", "53200")
REFUSED = ("42501", "25006")


def explain(error: BaseException, place: str, *, doing: str = "kept, nor looked for") -> BaseException:
    """What the caller is told; the error itself, where it is none of the database's."""
    if isinstance(error, UnicodeEncodeError):
        shown = f"{error.object[:100]!a}"
        if doing == "recorded":
            return KitaruUsageError(f"this cannot be recorded: text that is no UTF-8: {shown}")
        return KitaruUsageError(
            f"text that is no UTF-8 cannot be {doing}: {shown}",
            hint="bytes of a file's name, or of another encoding, are in it",
        )
    if isinstance(error, OverflowError):
        return KitaruUsageError(f"this cannot be {doing}: a number is too large: {error}")
    own = of_driver(error)
    if own is None:
        return (
            KitaruBackendError(f"the database {place} failed: {error}") if isinstance(error, SQLAlchemyError) else error
        )
    return explained(own, place, doing)


def explained(error: Any, place: str, doing: str) -> Exception:
    import psycopg

    state, said = error.sqlstate or "", first_line(error)
    if isinstance(error, psycopg.DataError | psycopg.ProgrammingError) and (not state or state.startswith(UNFIT)):
        return KitaruUsageError(f"this cannot be {doing}: {said}")
    if state.startswith(BUSY):
        return KitaruBackendError(
            f"the database {place} is busy: others have held for long what this needs", hint="try again in a moment"
        )
    if state.startswith(MISSING):
        return KitaruBackendError(f"the database {place} is of another schema: {said}", hint="kitaru migrate")
    if state.startswith(FULL):
        return KitaruBackendError(
            f"the disk of the database {place} is full; nothing of this was written", hint="free some space there"
        )
    if state.startswith(REFUSED):
        return KitaruBackendError(
            f"the database {place} does not allow this: {said}", hint="connect as a role that may write to it"
        )
    if isinstance(error, psycopg.OperationalError) and not state.startswith(("5", "2")):
        return KitaruBackendError(
            f"the database {place} cannot be reached: {said}",
            hint="see that it runs, and that user and password are right; what waits for it goes on by itself",
        )
    return KitaruBackendError(f"the database {place} failed: {said}", hint="kitaru doctor")


def of_driver(error: BaseException | None) -> Any | None:
    """The driver's own error, if it is one or was caused by one."""
    import psycopg

    if isinstance(error, DBAPIError):
        error = error.orig
    return error if isinstance(error, psycopg.Error) else None


def first_line(error: Any) -> str:
    """What the server said; a failed connection's message has a line for each address."""
    said = error.diag.message_primary if error.diag.message_primary else str(error)
    line = next((line for line in said.splitlines() if line.strip()), type(error).__name__)
    line = re.sub(r"^connection failed: ", "", line.strip())
    return re.sub(r"(password=)\S+", r"\1***", line)


def is_of_the_rows(error: BaseException) -> bool:
    """Whether it is about what was to be written."""
    import psycopg

    own = of_driver(error)
    if own is None:
        return isinstance(error, Exception)
    return isinstance(own, psycopg.DataError | psycopg.IntegrityError | psycopg.ProgrammingError)


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone."""
    import psycopg

    own = of_driver(error)
    if own is None:
        return False
    if (own.sqlstate or "").startswith(LOST):
        return True
    # One that the driver saw itself has no state.
    return isinstance(own, psycopg.OperationalError | psycopg.InterfaceError) and not own.sqlstate
