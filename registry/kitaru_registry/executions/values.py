"""Values too large for a row: files named by the sha256 of their bytes.

A file is written, or touched, before the row that names it. Until that row is committed its writer holds a shared lock
beside the folder (`naming`); whoever deletes files holds it alone, so that none goes which a row is about to name.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from kitaru_registry.database.opening import Database
from kitaru_registry.durable import sync, sync_folder
from kitaru_registry.errors import KitaruBackendError, KitaruDigestMismatchError
from kitaru_registry.records.values import Deletion, Stored, Values

IN_ROW_BYTES = 16 << 10

PATIENCE_SECONDS = 5.0


def values_of(database: Database) -> Values:
    """Where the large values of a record are: beside the home's own, else in the database."""
    if database.dialect.is_own:
        return ValueStore(database.home.values)
    from kitaru_registry.database.value_chunks import ChunkedValues

    return ChunkedValues(database)


class Held(threading.local):
    """The lock of a thread that names files, from its first file to the end of its outermost context."""

    depth = 0
    lock: int | None = None

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *raised: object) -> None:
        self.depth -= 1
        if not self.depth and self.lock is not None:
            descriptor, self.lock = self.lock, None
            os.close(descriptor)


class ValueStore:
    """See Values."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lasting: set[Path] = set()
        self._held = Held()

    def naming(self) -> AbstractContextManager[None]:
        """Around `put` and the commit of the rows that name what was put: nothing of it is deleted meanwhile."""
        return self._held

    def put(self, data: bytes) -> bytes:
        """The sha256 of the bytes, which are on disk when this returns; the row that names them comes after."""
        digest = sha256(data)
        path = self._path(digest.digest())
        try:
            if self._held.depth and self._held.lock is None:
                self._held.lock = self._lock(fcntl.LOCK_SH)
            self._make(self._root)
            self._make(path.parent)
            if path.exists():
                os.utime(path)
            else:
                self._write(path, data)
            # Of one that exists too: whoever wrote it may not have come to this, or have been killed before it.
            sync_folder(path.parent)
            # After the file: what is put on disk for that takes the names of new folders along, and costs most here.
            self._keep(path.parent)
            self._keep(self._root)
        except OSError as error:
            raise KitaruBackendError(
                f"a value of {len(data):,} bytes could not be written to {self._root}: {error.strerror}",
                hint=f"free some space: du -sh {self._root.parent}/*",
            ) from error
        return digest.digest()

    def get(self, digest: bytes) -> bytes:
        """The verified bytes.

        Raises:
            KitaruDigestMismatchError: they were changed.
            KitaruBackendError: they are gone.
        """
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise self._gone(digest) from error
        if sha256(data).digest() != digest:
            raise KitaruDigestMismatchError(f"sha256:{digest.hex()}", str(self._root))
        return data

    def size(self, digest: bytes) -> int:
        """In bytes, as stored; not verified.

        Raises:
            KitaruBackendError: it is gone.
        """
        try:
            return self._path(digest).stat().st_size
        except OSError as error:
            raise self._gone(digest) from error

    def names(self) -> Iterator[Stored]:
        """See Values."""
        for folder in self._root.glob("??"):
            for path in folder.iterdir():
                if len(path.name) == 64:
                    try:
                        state = path.stat()
                        yield Stored(bytes.fromhex(path.name), state.st_size, state.st_mtime)
                    except FileNotFoundError:
                        continue

    def delete(self, is_named: Callable[[bytes], bool], digests: Iterable[bytes]) -> Deletion | None:
        """Delete those of the files that no row names, while nobody is about to name one.

        None where writers did not pause within `PATIENCE_SECONDS`; nothing was deleted.
        """
        descriptor = self._lock_alone()
        if descriptor is None:
            return None
        try:
            files = size = 0
            for digest in digests:
                path = self._path(digest)
                if not is_named(digest) and path.exists():
                    size += path.stat().st_size
                    path.unlink()
                    files += 1
            return Deletion(files, size)
        finally:
            os.close(descriptor)

    def sweep_partial(self, older_than_seconds: float) -> None:
        """Delete what writers that were killed have left half-written."""
        oldest = time.time() - older_than_seconds
        for path in self._root.glob("??/.*"):
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)

    def _lock(self, how: int) -> int:
        self._root.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(
            self._root.with_name(f"{self._root.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, how)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _lock_alone(self) -> int | None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return None
                time.sleep(0.01)

    def _gone(self, digest: bytes) -> KitaruBackendError:
        return KitaruBackendError(
            f"the value sha256:{digest.hex()} is not in {self._root}", hint="restore that file from a backup"
        )

    def _path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self._root / name[:2] / name

    def _write(self, path: Path, data: bytes) -> None:
        partial = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            with partial.open("xb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(data)
                sync(file)
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            return
        self._lasting.discard(folder)

    def _keep(self, folder: Path) -> None:
        """Put the folder's name on disk, once in a process: another one may have created it, and been killed."""
        if folder not in self._lasting:
            sync_folder(folder.parent)
            self._lasting.add(folder)
