"""File locks that tell who is alive: they end with the last process that holds them, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path

from kitaru_registry.home import Home
from kitaru_runner.forking import close_in_forks, keep


class FileLock:
    """An exclusive flock. A process that is given the descriptor holds it too; one that is forked does not."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        close_in_forks(descriptor)

    @classmethod
    def acquire(cls, path: Path) -> FileLock | None:
        """The lock, or None where somebody holds it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    return None
                raise
            if is_same_file(path, descriptor):
                return cls(path, descriptor)
            # Its file was removed between open and flock: that lock excludes nobody.
            os.close(descriptor)

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


def is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock. Creates nothing."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder(path: Path) -> str | None:
    """What the holder wrote; None where nobody holds it."""
    return path.read_text() if is_held(path) else None


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
