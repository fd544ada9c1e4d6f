"""The code of a snapshot in the folder of an execution, which its flow writes to as well.

Nothing here follows a link: a flow may have put one wherever it likes, and what it leads to is none of ours.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from kitaru_registry.snapshots.artifact import code_files

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def lay_code(tar: bytes, folder: Path) -> None:
    """Write the files of a code tar into a folder that may hold other files, and is made where it is none.

    They are writable. What a flow has put in the place of one of them, or of a folder above it, is removed.
    """
    for file in code_files(tar):
        place = PurePosixPath(file.path)
        with _inside(folder, place.parent.parts, makes=True) as parent:
            _remove(place.name, parent)
            descriptor = os.open(place.name, NEW_FILE, 0o600, dir_fd=parent)
            with os.fdopen(descriptor, "wb") as out:
                out.write(file.content)
                os.fchmod(descriptor, file.mode | 0o200)


def take_code_away(tar: bytes, folder: Path) -> None:
    """Remove what `lay_code` wrote, and the folders that are empty then."""
    places = [PurePosixPath(file.path) for file in code_files(tar)]
    for place in places:
        # A folder of the flow's, in the way: it stays.
        with suppress(OSError), _inside(folder, place.parent.parts) as parent:
            os.unlink(place.name, dir_fd=parent)
    for above in _deepest_first({parent for place in places for parent in place.parents}):
        with suppress(OSError), _inside(folder, above.parts) as inside:
            shutil.rmtree("__pycache__", ignore_errors=True, dir_fd=inside)
        # It fails where it holds what the flow wrote.
        with suppress(OSError), _inside(folder, above.parent.parts) as parent:
            os.rmdir(above.name, dir_fd=parent)
    with suppress(OSError):
        folder.rmdir()


def _deepest_first(places: Iterable[PurePosixPath]) -> list[PurePosixPath]:
    return sorted(places, key=lambda place: len(place.parts), reverse=True)


@contextmanager
def _inside(folder: Path, parts: Iterable[str], *, makes: bool = False) -> Iterator[int]:
    """A descriptor of a folder below another; each on the way is a real one.

    Args:
        makes: whether what is missing is made, and what is no folder is replaced by one; else it is an OSError.
    """
    descriptor = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in (folder.name, *parts):
            try:
                below = os.open(part, FOLDER, dir_fd=descriptor)
            except OSError as error:
                if not makes or error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise
                _remove(part, descriptor)
                os.mkdir(part, dir_fd=descriptor)
                below = os.open(part, FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(name: str, parent: int) -> None:
    """Nothing has that name in the folder any more: a link goes, what it leads to stays."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):  # the second is POSIX's word for it
        shutil.rmtree(name, dir_fd=parent)
