"""Where a record is, as kitaru.toml may say it: never with a password in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from kitaru_registry.errors import KitaruUsageError

SCHEMES = ("postgresql", "postgresql+psycopg")


def check_setting(said: str) -> str:
    """
    Raises:
        ValueError: it is neither `env:NAME`, nor `file:PATH`, nor a URL of a database; or that URL names a user.
    """
    kind, _, rest = said.partition(":")
    if kind in ("env", "file") and rest:
        return said
    if kind not in SCHEMES:
        raise ValueError('it is "env:NAME", "file:PATH" or "postgresql://HOST/DATABASE"')
    if "@" in urlsplit(said).netloc:
        raise ValueError("it names a user, and this file is no place for credentials: use env:NAME or file:PATH")
    return said


def resolved(said: str, environ: Mapping[str, str] = os.environ) -> str:
    """The URL that a setting means.

    Raises:
        KitaruUsageError: the variable is not set, or the file cannot be read.
    """
    kind, _, rest = said.partition(":")
    if kind == "env":
        found = environ.get(rest, "").strip()
        if not found:
            raise KitaruUsageError(
                f"the record is in the database that {rest} names, and {rest} is not set",
                hint=f"{rest}=postgresql://user:password@host/database",
            )
        return found
    if kind == "file":
        try:
            return Path(rest).expanduser().read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise KitaruUsageError(
                f"the record is in the database that {rest} names, and that cannot be read: "
                f"{getattr(error, 'strerror', None) or 'it is no text'}",
                hint="a file with one line: postgresql://user:password@host/database",
            ) from error
    return said
