"""Whether the packages that a source names are the same in whatever folder it lies.

What was resolved in one clone or worktree is taken in another only where nothing in the files, and nothing in uv's
settings, can mean a place in the folder itself. In doubt it is resolved there too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kitaru_registry.snapshots.sources import Source

# In a lock: whatever has no address of a host, but for the project itself, which is never a wheel.
PLACE_IN_LOCK = re.compile(
    r"""\b(?:path|directory|editable|virtual|registry|url)\s*=\s*["'](?!\.["'])(?!(?!file:)[a-z0-9+.-]+://)"""
)
PLAIN_OPTION = re.compile(
    r"(?:-r|-c|--requirement|--constraint)\b.*|(?:-i|--index-url|--extra-index-url)[ =]+https?://\S+"
)
PLAIN_REQUIREMENT = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(?:\[[^\]]*\])?\s*(?:[(=<>!~;].*|@\s*(?!file:)[a-z0-9+.-]+://.*)?", re.DOTALL
)
ARCHIVE = re.compile(r"\.(?:whl|zip|tgz|tar(?:\.\w+)?)$")
PLACES_IN_ENVIRONMENT = ("UV_FIND_LINKS", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")


def may_share(source: Source, environ: Mapping[str, str]) -> bool:
    """Whether an answer for this source holds in every folder that has the same text."""
    places = (environ.get(name, "") for name in PLACES_IN_ENVIRONMENT)
    if source.computed or any(_is_relative(place) for said in places for place in re.split(r"[\s,]+", said)):
        return False
    return not any(_names_a_place(name, content.decode(errors="replace")) for name, content in source.files)


def _is_relative(place: str) -> bool:
    name, equals, after = place.partition("=")
    address = after if equals and "://" not in name else place
    return bool(address) and "://" not in address and not Path(address).is_absolute()


def _names_a_place(name: str, text: str) -> bool:
    if name.endswith(".lock") or Path(name).name.startswith("pylock"):
        return PLACE_IN_LOCK.search(text) is not None
    if name.endswith("uv.toml"):
        return True
    if name.endswith("pyproject.toml") or name.startswith("the PEP 723 block"):
        return "tool.uv" in text or "file:" in text
    return not all(_is_plain(line) for line in _lines(text))


def _lines(text: str) -> Iterator[str]:
    """What the lines of a requirements file say, without comments, options of a line and its continuations."""
    for line in text.replace("\\\n", " ").splitlines():
        said = re.sub(r"(?:^|\s)#.*", "", line)
        yield re.sub(r"\s--hash[ =]\S+", "", said).strip()


def _is_plain(line: str) -> bool:
    if not line or PLAIN_OPTION.fullmatch(line):
        return True
    return PLAIN_REQUIREMENT.fullmatch(line) is not None and not ARCHIVE.search(line.partition("@")[0].strip())
