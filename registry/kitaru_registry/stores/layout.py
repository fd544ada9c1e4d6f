"""Blobs in a folder that skopeo, oras and every other OCI tool can read.

    oci-layout         {"imageLayoutVersion": "1.0.0"}
    index.json         the named manifests
    blobs/sha256/HEX   one file each, read-only
    ingest/            blobs on their way in; on the same file system, so that a rename publishes them
    index.lock         held while index.json is replaced

OCI image-spec 1.1, "Image Layout".
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from kitaru_registry.canonical import canonical_json, hex_of, sha256_of, sha256_of_file
from kitaru_registry.durable import make_folder, sync, sync_folder
from kitaru_registry.errors import KitaruBackendError, KitaruDigestMismatchError, KitaruNotFoundError
from kitaru_registry.models import Digest
from kitaru_registry.stores.base import Descriptor

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
COPY_BYTES = 1 << 20


def ref_name(*, project: str, flow: str, version: int) -> str:
    """The name of a version's manifest in `index.json`: `review-v3`, or `team/review-v3` outside of `default`.

    No two versions share one. OCI allows a separator only between letters or digits; another run of
    separators is written as `+` and its hex: `my__flow` is `my+5f5f+flow-v1`.
    """
    prefix = "" if project == "default" else f"{_ref_component(project)}/"
    return f"{prefix}{_ref_component(flow)}-v{version}"


def _ref_component(name: str) -> str:
    inner = re.sub(r"[._-]{2,}(?=[A-Za-z0-9])", lambda run: f"+{run[0].encode().hex()}+", name)
    return re.sub(r"[._-]+$", lambda run: f"+{run[0].encode().hex()}", inner)


class OciLayout:
    """A BlobStore in `root`, which is created by the first write. Safe for many processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def exists(self, blob: Descriptor | Digest) -> bool:
        if isinstance(blob, Descriptor):
            found = self._blob(blob.digest)
            return found.is_file() and found.stat().st_size == blob.size
        return self._blob(blob).is_file()

    def size(self, digest: Digest) -> int:
        try:
            return self._blob(digest).stat().st_size
        except FileNotFoundError as error:
            raise self._missing(digest) from error

    def push(self, descriptor: Descriptor, content: IO[bytes]) -> None:
        with self._writing(descriptor.digest):
            if self._is_whole(descriptor):
                self.touch(descriptor.digest)
                # Whoever stored it may have been killed before it came to this.
                sync_folder(self._blob(descriptor.digest).parent)
            else:
                self._prepare()
                _publish(self._blob(descriptor.digest), content, descriptor, ingest=self.root / "ingest")

    def fetch(self, digest: Digest) -> bytes:
        with self._unverified(digest) as file:
            content = file.read()
        if (found := sha256_of(content)) != digest:
            raise KitaruDigestMismatchError(digest, str(self.root), found=found)
        return content

    def open(self, digest: Digest) -> IO[bytes]:
        file = self._unverified(digest)
        try:
            if (found := sha256_of_file(file)) != digest:
                raise KitaruDigestMismatchError(digest, str(self.root), found=found)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def path(self, digest: Digest) -> Path:
        self.open(digest).close()
        return self._blob(digest)

    def touch(self, digest: Digest) -> None:
        try:
            os.utime(self._blob(digest))
        except FileNotFoundError as error:
            raise self._missing(digest) from error

    def name(self, ref: str, descriptor: Descriptor) -> None:
        """Call a manifest `ref`, instead of the one that had the name before. The blob must be there."""
        if not self.exists(descriptor):
            raise self._missing(descriptor.digest)
        entry = {
            "mediaType": descriptor.media_type,
            "digest": descriptor.digest,
            "size": descriptor.size,
            "annotations": {REF_NAME: ref},
        }
        with self._changing_index() as entries:
            entries[:] = [e for e in entries if _ref_of(e) != ref] + [entry]

    def unname(self, ref: str) -> None:
        """Take the name away; the blobs stay. Nothing happens where it is not there."""
        if ref in self.names():
            with self._changing_index() as entries:
                entries[:] = [e for e in entries if _ref_of(e) != ref]

    def names(self) -> dict[str, Descriptor]:
        """Every name in `index.json`, and the manifest that it stands for."""
        return {
            ref: Descriptor(entry["mediaType"], Digest(entry["digest"]), entry["size"])
            for entry in self._index()["manifests"]
            if (ref := _ref_of(entry)) is not None
        }

    def _blob(self, digest: Digest) -> Path:
        try:
            return self.root / "blobs" / "sha256" / hex_of(digest)
        except ValueError as error:
            raise KitaruNotFoundError(f"no blob has such a name: {error}", hint="kitaru versions list") from error

    def _missing(self, digest: Digest) -> KitaruNotFoundError:
        return KitaruNotFoundError(
            f"there is no blob {digest} in {self.root}", hint="restore that blob, or deploy the flow again"
        )

    def _unverified(self, digest: Digest) -> IO[bytes]:
        try:
            return self._blob(digest).open("rb")
        except FileNotFoundError as error:
            raise self._missing(digest) from error
        except OSError as error:
            raise KitaruBackendError(
                f"cannot read {digest} in {self.root}: {error.strerror}", hint="kitaru doctor"
            ) from error

    def _is_whole(self, descriptor: Descriptor) -> bool:
        if not self.exists(descriptor):
            return False
        with self._unverified(descriptor.digest) as file:
            return sha256_of_file(file) == descriptor.digest

    def _prepare(self) -> None:
        if (self.root / "index.json").exists():
            return
        make_folder(self.root, mode=0o700)
        make_folder(self.root / "blobs" / "sha256")
        (self.root / "ingest").mkdir(exist_ok=True)
        with _locked(self.root / "index.lock"):
            if not (self.root / "index.json").exists():
                self._replace(self.root / "oci-layout", canonical_json({"imageLayoutVersion": "1.0.0"}))
                self._replace(self.root / "index.json", canonical_json(self._index()))

    def _index(self) -> dict[str, Any]:
        file = self.root / "index.json"
        try:
            index = json.loads(file.read_bytes())
            if not all(isinstance(entry, dict) for entry in index["manifests"]):
                raise TypeError("a manifest in it is no object")
        except FileNotFoundError:
            return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
        except (ValueError, KeyError, TypeError) as error:
            raise KitaruBackendError(
                f"{file} is no OCI image index: {error!r}", hint="restore it, or remove it and deploy again"
            ) from error
        return dict(index)

    @contextmanager
    def _changing_index(self) -> Iterator[list[dict[str, Any]]]:
        with self._writing("index.json"):
            self._prepare()
            with _locked(self.root / "index.lock"):
                index = self._index()
                yield index["manifests"]
                self._replace(self.root / "index.json", canonical_json(index))

    def _replace(self, target: Path, content: bytes) -> None:
        with _ingesting(self.root / "ingest") as (file, place):
            file.write(content)
            sync(file)
            place.chmod(0o600)
            place.replace(target)
        sync_folder(target.parent)

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise KitaruBackendError(
                f"cannot write {what} to {self.root}: {error.strerror}",
                hint="make room there, or see that you may write to it, and try again",
            ) from error


def _publish(target: Path, content: IO[bytes], descriptor: Descriptor, *, ingest: Path) -> None:
    with _ingesting(ingest) as (file, place):
        while chunk := content.read(COPY_BYTES):
            file.write(chunk)
        sync(file)
        file.seek(0)
        found = sha256_of_file(file)
        if found != descriptor.digest or file.tell() != descriptor.size:
            raise KitaruDigestMismatchError(descriptor.digest, "what was to be stored", found=found)
        place.chmod(0o400)
        place.replace(target)
    sync_folder(target.parent)


@contextmanager
def _ingesting(ingest: Path) -> Iterator[tuple[IO[bytes], Path]]:
    with tempfile.NamedTemporaryFile(dir=ingest, delete=False) as file:
        place = Path(file.name)
        try:
            yield file, place
        finally:
            place.unlink(missing_ok=True)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _ref_of(entry: dict[str, Any]) -> str | None:
    ref = entry.get("annotations", {}).get(REF_NAME)
    return None if ref is None else str(ref)
