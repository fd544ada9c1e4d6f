"""File locks that tell who is alive: they end with the last process that holds them, however it ends.

Each is taken twice, by flock, as releases before this one do, and as a lock of the open file description, which alone
the kernel tells of without taking it: who looks is never in the way of who takes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from contextlib import suppress
from pathlib import Path

from kitaru_registry.errors import KitaruBackendError
from kitaru_registry.home import Home
from kitaru_runner.engine.core.forking import close_in_forks, keep

FLOCK = "hhqqi4x"
"""`struct flock`: type, whence, start, length, process."""

SAID_BYTES = 4096

WHOLE_FILE = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


class FileLock:
    """An exclusive lock. A process that is given the descriptor holds it too; one that is forked does not."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        close_in_forks(descriptor)

    @classmethod
    def acquire(cls, path: Path) -> FileLock | None:
        """The lock, or None where somebody holds it.

        Raises:
            KitaruBackendError: the file cannot be made, opened or locked.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            while True:
                descriptor = take(path)
                if descriptor is None:
                    return None
                if is_same_file(path, descriptor):
                    return cls(path, descriptor)
                # Its file was removed between open and flock: that lock excludes nobody.
                os.close(descriptor)
        except OSError as error:
            raise KitaruBackendError(
                f"{error.filename or path} cannot be used: {error.strerror}", hint="kitaru doctor"
            ) from error

    @classmethod
    def inherit(cls, path: Path, descriptor: int) -> FileLock:
        """The lock that this process was given by the one that started it, as it holds it too."""
        os.set_inheritable(descriptor, False)
        return cls(path, descriptor)

    def write(self, text: str) -> None:
        """Say who holds it. On a full disk nothing is said; the lock is held all the same."""
        with suppress(OSError):
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, text.encode(), 0)

    def release(self, *, remove: bool = False) -> None:
        if remove:
            self.path.unlink(missing_ok=True)
        keep(self.descriptor)
        os.close(self.descriptor)


def take(path: Path) -> int | None:
    """A descriptor that holds the lock on the file at `path`; None where somebody else does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, WHOLE_FILE)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise
    return descriptor


def is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock. Creates nothing, and takes nothing."""
    return holder(path) is not None


def holder(path: Path) -> str | None:
    """What the holder wrote; None where nobody holds it."""
    try:
        # Not blocking: what is no file of ours, a named pipe, is held by nobody.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        found, *_ = struct.unpack(FLOCK, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, WHOLE_FILE))
        return None if found == fcntl.F_UNLCK else os.read(descriptor, SAID_BYTES).decode(errors="replace")
    finally:
        os.close(descriptor)


def owner_of(path: Path) -> str:
    """Who has a lock that is held: `process 12 (runner 7)`, as it says, or whoever holds it where those are dead."""
    said = path.read_text().strip() if path.exists() else ""
    living = processes_with(path)
    if not living or any(pid in living for pid in map(int, re.findall(r"\d+", said))):
        return f"process {said or 'unknown'}"
    return f"process {', '.join(map(str, living))}, which its own process has left behind"


def processes_with(path: Path) -> list[int]:
    """The processes of this user that have the file open: of a lock that is held, those that may hold it."""
    try:
        wanted = path.stat()
    except FileNotFoundError:
        return []
    running = [int(process.name) for process in Path("/proc").iterdir() if process.name.isdigit()]
    return sorted(pid for pid in running if has_open(pid, wanted))


def has_open(pid: int, wanted: os.stat_result) -> bool:
    try:
        found = [entry.stat() for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.exists()]
    except OSError:  # another user's, or gone
        return False
    return any(os.path.samestat(wanted, one) for one in found)


def execution_lock(home: Home, exec_id: str) -> Path:
    return home.execution(exec_id) / "lock"
