"""Names of projects, flows and tags: what one may look like, and which one was meant.

Standard library only.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from kitaru_registry.errors import KitaruUsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
VERSION = re.compile(r"v[0-9]+")

LONGEST_NAME = 4_096
"""Characters of an artifact's or a wait's name, a tag, a call's id."""

TOLD_WIDTH = 200

LONGEST_TEXT = 1 << 20
"""Characters of a question, a reason; and bytes of metadata as JSON."""


def check_name(kind: str, name: str) -> str:
    """The name, if it may be one.

    Args:
        kind: `project`, `flow` or `tag`, as the error will say it.

    Raises:
        KitaruUsageError: odd characters or length, or a tag that reads like a version.
    """
    if not NAME.fullmatch(name):
        raise KitaruUsageError(
            f"{told(name)} cannot be the name of a {kind}",
            hint=f"a {kind} name is 1 to 100 letters, digits, '.', '_' or '-', and begins with a letter or digit",
        )
    if kind == "tag" and VERSION.fullmatch(name):
        raise KitaruUsageError(
            f"a tag cannot be named {name}: that is how versions are written",
            hint="take a name that says what the tag is for, such as stable or canary",
        )
    return name


def check_text(what: str, given: str, *, most: int = LONGEST_NAME) -> str:
    """The text, if it can be kept and shown.

    Args:
        what: how the error names it: `save(name)`.

    Raises:
        KitaruUsageError: no text, longer than `most` characters, not UTF-8, or with a NUL in it.
    """
    if not isinstance(given, str):
        raise KitaruUsageError(f"{what} is of type {type(given).__name__}", hint="give a text")
    if len(given) > most:
        raise KitaruUsageError(
            f"{what} has {len(given):,} characters; {most:,} is the most",
            hint="keep what is long as a value: return it, or kitaru.save(name, value)",
        )
    if "\0" in given or not is_utf8(given):
        raise KitaruUsageError(
            f"{what} is no UTF-8, or has a NUL in it: {given[:100]!a}",
            hint="give text that has a UTF-8 form",
        )
    return given


def told(value: object) -> str:
    """The value as Python writes it, cut short; its type alone where it is too deep or too large to be written."""
    try:
        said = repr(value)
    # Whatever a class's own repr raises.
    except Exception:
        return f"something of type {type(value).__name__}"
    return said if len(said) <= TOLD_WIDTH else f"{said[:TOLD_WIDTH]}..."


def is_utf8(text: str) -> bool:
    """Whether the text can be written as UTF-8: it holds no lone surrogate, as file names of other bytes do."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that was probably meant, whatever its case; None where none is near."""
    by_folded = {candidate.casefold(): candidate for candidate in sorted(names)}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    return by_folded[found[0]] if found else None
