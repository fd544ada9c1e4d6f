"""Values too large for a row: files named by the sha256 of their bytes."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from kitaru_registry.durable import sync, sync_folder
from kitaru_registry.errors import KitaruBackendError, KitaruDigestMismatchError

IN_ROW_BYTES = 16 << 10


class ValueStore:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._lasting: set[Path] = set()

    def put(self, data: bytes) -> bytes:
        """The sha256 of the bytes, which are on disk when this returns; the row that names them comes after."""
        digest = sha256(data)
        path = self._path(digest.digest())
        try:
            self._keep_folder(self._root)
            self._keep_folder(path.parent)
            if path.exists():
                os.utime(path)
                # Whoever wrote it may not have come to this, or have been killed before it.
                sync_folder(path.parent)
            else:
                self._write(path, data)
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
                file.write(data)
                sync(file)
            partial.rename(path)
            sync_folder(path.parent)
        finally:
            partial.unlink(missing_ok=True)

    def _keep_folder(self, folder: Path) -> None:
        """Create the folder, and put its name on disk: once in a process where another one has created it."""
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if folder in self._lasting:
                return
        sync_folder(folder.parent)
        self._lasting.add(folder)
