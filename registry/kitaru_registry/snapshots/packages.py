"""Packages as a resolution leaves them: each wheel by name, version and digest, and what the answer was made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kitaru_registry.models import Digest

FILE_STATE = "file"


@dataclass(frozen=True)
class LockedWheel:
    name: str
    version: str
    filename: str
    digest: Digest
    url: str | None
    """Where it was published; never in the lock itself."""
    path: Path | None
    """Where it lies on this machine: built here, Kitaru's own, or from a local index."""


@dataclass(frozen=True)
class Lock:
    text: bytes
    """Canonical PEP 751; the lock blob of a snapshot."""
    wheels: tuple[LockedWheel, ...]
    """By name."""
    warnings: tuple[str, ...] = ()
    source: str = ""
    """What it was made from, in words: `uv.lock`, `no dependency file`."""

    @property
    def digests(self) -> dict[str, Digest]:
        """File name to digest, as the config blob holds them."""
        return {wheel.filename: wheel.digest for wheel in self.wheels}


@dataclass(frozen=True)
class LocalInput:
    """A local package that the answer was made from; another fingerprint makes the answer stale."""

    path: Path
    fingerprint: str


def state_of_file(path: Path) -> str:
    """Changes whenever the file is written: its contents are not read. Empty if it is gone."""
    try:
        facts = path.stat()
    except OSError:
        return ""
    return f"{FILE_STATE} {facts.st_size} {facts.st_mtime_ns} {facts.st_ino}"
