"""Times, sizes, names and values as people read them. Pure functions; standard library only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

SHORT_ID_LENGTH = 8
"""An execution's id begins with its time, so that neighbours look alike: its end is what tells them apart."""

SIZES = (("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000))
UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


NO_TIME = "-"


def now() -> datetime:
    return datetime.now(UTC)


def short_id(exec_id: str) -> str:
    """The end of an execution's id; every command accepts it in place of the whole."""
    return exec_id[-SHORT_ID_LENGTH:]


def short_digest(digest: str) -> str:
    """`sha256:` and twelve digits."""
    return digest[:19]


def ago(at: datetime | None, seen_from: datetime) -> str:
    """`12s ago`, `3m ago`, `in 2h`; a date where it is more than 30 days away; a dash for never."""
    if at is None:
        return NO_TIME
    seconds = round((seen_from - at).total_seconds())
    if abs(seconds) < 1:
        return "now"
    if abs(seconds) > timedelta(days=30).total_seconds():
        return at.astimezone().strftime("%Y-%m-%d")
    size, unit = next((unit_seconds, name) for name, unit_seconds in UNITS if abs(seconds) >= unit_seconds)
    count = f"{abs(seconds) // size}{unit}"
    return f"{count} ago" if seconds > 0 else f"in {count}"


def moment(at: datetime | None, seen_from: datetime) -> str:
    """Local wall time, and how long ago that is."""
    return NO_TIME if at is None else f"{at.astimezone():%Y-%m-%d %H:%M:%S} ({ago(at, seen_from)})"


def due(at: datetime | None) -> str:
    """Local wall time of what is to come."""
    return NO_TIME if at is None else f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def took(start: datetime | None, end: datetime | None) -> str:
    """`12ms`, `1.2s`, `3m 05s`, `2h 03m`; a dash where one of the two is missing."""
    if start is None or end is None:
        return NO_TIME
    seconds = max((end - start).total_seconds(), 0.0)
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02}s"
    return f"{minutes // 60}h {minutes % 60:02}m"


def size(count: int) -> str:
    """`512 B`, `14 KB`, `1.2 MB`: powers of 1,000."""
    if count < 1_000:
        return f"{count} B"
    unit, per_unit = next((unit, divisor) for unit, divisor in SIZES if count < divisor * 999.5 or unit == "GB")
    value = count / per_unit
    return f"{value:.0f} {unit}" if value >= 9.95 else f"{value:.1f} {unit}"


def route(routes: Mapping[str, int] | None) -> str:
    """`v3`, or the shares of a split: `v3 90%, v4 10%`."""
    if not routes:
        return "-"
    if len(routes) == 1:
        return next(iter(routes))
    return ", ".join(f"{version} {percent}%" for version, percent in routes.items())


def version_of(version: int | None, tag: str | None) -> str:
    """`v3 (stable)`; `source` for an execution that no version stands behind."""
    if version is None:
        return "source"
    return f"v{version} ({tag})" if tag else f"v{version}"


def counted(count: int, noun: str) -> str:
    """`1 version`, `2 versions`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def value_text(value: object) -> str:
    """A result as it is read: text as it is, anything else as indented JSON."""
    return value if isinstance(value, str) else indented(value)


def indented(value: object, *, ascii_only: bool = False) -> str:
    """JSON in lines; in one line where it is too deep for that."""
    try:
        return json.dumps(value, indent=2, ensure_ascii=ascii_only, default=str)
    except RecursionError:
        return json.dumps(value, ensure_ascii=ascii_only, default=str)


def value_line(value: object) -> str:
    """JSON in one line."""
    return json.dumps(value, ensure_ascii=False, default=str)


def visible(text: str) -> str:
    """The text with control characters spelt out, so that no stored value can steer the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    return " ".join(visible(text).split())


def first_line(text: str) -> str:
    """What a table has room for; dots where there is more."""
    line, _, rest = text.strip().partition("\n")
    return f"{line} ..." if rest else line
