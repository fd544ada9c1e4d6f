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


def check_name(kind: str, name: str) -> str:
    """The name, if it may be one.

    Args:
        kind: `project`, `flow` or `tag`, as the error will say it.

    Raises:
        KitaruUsageError: odd characters or length, or a tag that reads like a version.
    """
    if not NAME.fullmatch(name):
        raise KitaruUsageError(
            f"{name!r} cannot be the name of a {kind}",
            hint=f"a {kind} name is 1 to 100 letters, digits, '.', '_' or '-', and begins with a letter or digit",
        )
    if kind == "tag" and VERSION.fullmatch(name):
        raise KitaruUsageError(
            f"a tag cannot be named {name}: that is how versions are written",
            hint="take a name that says what the tag is for, such as stable or canary",
        )
    return name


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that was probably meant, whatever its case; None where none is near."""
    by_folded = {candidate.casefold(): candidate for candidate in sorted(names)}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    return by_folded[found[0]] if found else None
