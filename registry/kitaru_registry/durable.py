"""What lasts through a power cut: bytes once their file is synced, a name once its folder is.

Standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any


def sync(file: IO[Any]) -> None:
    """Put what was written to the file on disk."""
    file.flush()
    os.fsync(file.fileno())


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Create the folder, with all above it that are missing, and put the names of the new ones on disk."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(mode, parents=True, exist_ok=True)
    for each in reversed(new):
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Put the folder's names on disk: a rename into it lasts from here on."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
