"""Files that this process's output goes into: `kitaru deploy > deploy.log`, `kitaru deploy | tee deploy.log`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

OUTPUTS = (1, 2)
MOST_FILES_OF_A_READER = 64


def without_own_outputs(places: Mapping[str, Path]) -> dict[str, Path]:
    """The files but those: they change while they are read, and are no part of any project."""
    written = set(_outputs())
    if not written:
        return dict(places)
    return {path: place for path, place in places.items() if _identity(place.stat()) not in written}


def _outputs() -> Iterator[tuple[int, int]]:
    for descriptor in OUTPUTS:
        try:
            facts = os.fstat(descriptor)
        except OSError:
            continue
        if stat.S_ISREG(facts.st_mode):
            yield _identity(facts)
        elif stat.S_ISFIFO(facts.st_mode):
            yield from _written_by_readers(f"pipe:[{facts.st_ino}]")


def _written_by_readers(pipe: str) -> Iterator[tuple[int, int]]:
    """What processes write whose standard input is the pipe; none where the system does not tell."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str((process / "fd" / "0").readlink()) != pipe:
                continue
            for descriptor in sorted((process / "fd").iterdir())[:MOST_FILES_OF_A_READER]:
                facts = descriptor.stat()
                if stat.S_ISREG(facts.st_mode) and _is_open_for_writing(process, descriptor.name):
                    yield _identity(facts)
        except OSError:
            continue


def _is_open_for_writing(process: Path, descriptor: str) -> bool:
    about = dict(line.split(":", 1) for line in (process / "fdinfo" / descriptor).read_text().splitlines())
    return int(about["flags"], 8) & os.O_ACCMODE != os.O_RDONLY


def _identity(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_dev, facts.st_ino
