"""A snapshot: the OCI artifact that holds a flow's code, lock and wheels, and says what they are.

Identity is a function of the collected files, the lock and the facts; of no clock, user, host or path.
docs/snapshot-format.md describes the format.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Collection as AnyOf
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kitaru_registry.canonical import canonical_json, sha256_of
from kitaru_registry.errors import KitaruBackendError, KitaruNotFoundError
from kitaru_registry.models import BlobCounts, Digest, SnapshotConfig, SnapshotFacts
from kitaru_registry.stores.base import BlobStore, Descriptor

if TYPE_CHECKING:
    from kitaru_registry.snapshots.files import Collection

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.kitaru.flow.v1"
CONFIG_TYPE = "application/vnd.kitaru.flow.config.v1+json"
CODE_TYPE = "application/vnd.kitaru.code.v1.tar"
LOCK_TYPE = "application/vnd.kitaru.lock.v1+toml"
WHEEL_TYPE = "application/vnd.kitaru.wheel.v1+zip"
TITLE = "org.opencontainers.image.title"
CONFIG_SCHEMA = 1


@dataclass(frozen=True)
class Packed:
    """A snapshot in a store."""

    manifest: Descriptor
    config: SnapshotConfig
    counts: BlobCounts
    """Of config, code, lock and wheels."""

    @property
    def digest(self) -> Digest:
        return self.manifest.digest


@dataclass(frozen=True)
class Layer:
    """A blob of a manifest, and the file name that `oras pull` gives it."""

    blob: Descriptor
    title: str


@dataclass(frozen=True)
class Manifest:
    """What a snapshot's digest stands for."""

    config: Descriptor
    layers: tuple[Layer, ...]

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        return (self.config, *(layer.blob for layer in self.layers))


def code_tar(collection: Collection) -> bytes:
    """The code blob: the same bytes for the same files, whoever packs them, wherever, whenever."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in collection.files:
            entry = tarfile.TarInfo(file.path)
            entry.size = file.size
            entry.mode = 0o755 if file.executable else 0o644
            tar.addfile(entry, io.BytesIO(collection.read(file.path)))
    return out.getvalue()


def pack(
    store: BlobStore,
    *,
    facts: SnapshotFacts,
    collection: Collection,
    lock: bytes,
    wheels: Mapping[str, Digest],
    new_wheels: AnyOf[Digest] = (),
) -> Packed:
    """Store a snapshot, its manifest last: who can see it can fetch every blob that it names.

    Args:
        wheels: file name to digest; each is in the store already.
        new_wheels: those of them that this deploy brought, to be counted as new.

    Raises:
        KitaruNotFoundError: a wheel is not in the store.
    """
    code = code_tar(collection)
    config = SnapshotConfig(**dict(facts), code=sha256_of(code), lock=sha256_of(lock), wheels=dict(wheels))
    written = _Writer(store, set(new_wheels))
    layers = [
        Layer(written.push(CODE_TYPE, code), "code.tar"),
        Layer(written.push(LOCK_TYPE, lock), "pylock.toml"),
        *(Layer(written.stored(WHEEL_TYPE, wheels[name]), f"wheels/{name}") for name in sorted(wheels)),
    ]
    described = written.push(CONFIG_TYPE, canonical_json(config.model_dump(mode="json", by_alias=True)))
    counts = written.counts()
    manifest = written.push(MANIFEST_TYPE, _manifest_bytes(Manifest(described, tuple(layers))))
    return Packed(manifest, config, counts)


def read_manifest(store: BlobStore, digest: Digest) -> Manifest:
    """The manifest of a snapshot.

    Raises:
        KitaruNotFoundError: it is not in the store.
        KitaruDigestMismatchError: its bytes have changed.
        KitaruBackendError: the blob is something else.
    """
    try:
        value = json.loads(store.fetch(digest))
        if value["artifactType"] != ARTIFACT_TYPE or value["schemaVersion"] != 2:
            raise ValueError(f"its artifact type is {value['artifactType']}")
        layers = tuple(Layer(_descriptor(entry), entry["annotations"][TITLE]) for entry in value["layers"])
        return Manifest(_descriptor(value["config"]), layers)
    except (ValueError, KeyError, TypeError) as error:
        raise KitaruBackendError(
            f"{digest} is not the manifest of a snapshot: {error!r}", hint="kitaru versions list"
        ) from error


def read_config(store: BlobStore, digest: Digest) -> SnapshotConfig:
    """The config of the snapshot with this manifest digest.

    Raises:
        KitaruBackendError: a newer Kitaru wrote it, or it is no config; and as `read_manifest`.
    """
    blob = read_manifest(store, digest).config
    try:
        value = json.loads(store.fetch(blob.digest))
        schema = int(value["schema"])
        if schema <= CONFIG_SCHEMA:
            return SnapshotConfig.model_validate(value)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise KitaruBackendError(
            f"{blob.digest} is not the config of a snapshot", hint="deploy the flow again"
        ) from error
    raise KitaruBackendError(
        f"the snapshot {digest} has schema {schema}, this Kitaru reads up to {CONFIG_SCHEMA}",
        hint="pip install --upgrade kitaru",
    )


def fetch_code(store: BlobStore, config: SnapshotConfig) -> bytes:
    """The code tar, verified."""
    return store.fetch(config.code)


def fetch_lock(store: BlobStore, config: SnapshotConfig) -> bytes:
    """The lock, verified."""
    return store.fetch(config.lock)


def verify(store: BlobStore, digest: Digest) -> None:
    """Read every blob of a snapshot and compare it with its digest.

    Raises:
        KitaruNotFoundError, KitaruDigestMismatchError: the first blob that is missing or damaged, by name.
        KitaruBackendError: manifest and config name different blobs.
    """
    manifest = read_manifest(store, digest)
    config = read_config(store, digest)
    for blob in manifest.blobs:
        store.open(blob.digest).close()
    named = {config.code, config.lock, *config.wheels.values()}
    if {layer.blob.digest for layer in manifest.layers} != named:
        raise KitaruBackendError(f"the manifest {digest} and its config name different blobs", hint="deploy again")


def unpack_code(tar: bytes, folder: Path) -> None:
    """Make `folder` hold exactly the files of a code tar, read-only; whole or not at all.

    One that holds them already is left alone; one that was changed is replaced. `__pycache__` is not looked at.

    Raises:
        KitaruBackendError: the disk is full, or something else is in the way.
    """
    try:
        _unpack(tar, folder)
    except OSError as error:
        raise KitaruBackendError(
            f"the code cannot be unpacked into {folder}: {error.filename or folder}: {error.strerror}",
            hint="make room there, or see that you may write to it, and try again",
        ) from error


def _unpack(tar: bytes, folder: Path) -> None:
    if folder.is_dir() and _holds(folder, tar):
        return
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _extract(tar, fresh / "new")
        if folder.is_dir() and _holds(folder, tar):
            return
        _publish(fresh / "new", folder, aside=fresh / "old")
        if not _holds(folder, tar):
            raise KitaruBackendError(f"could not unpack code into {folder}", hint=f"remove {folder} and try again")
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _publish(fresh: Path, folder: Path, *, aside: Path) -> None:
    try:
        fresh.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # There already: changed by somebody, or just published by another process, which is as good.
        with contextlib.suppress(OSError):
            folder.rename(aside)
        with contextlib.suppress(OSError):
            fresh.rename(folder)


def _extract(tar: bytes, folder: Path) -> None:
    folder.mkdir(mode=0o755)
    for file in code_files(tar):
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(file.mode)


def _holds(folder: Path, tar: bytes) -> bool:
    expected = {file.path: file for file in code_files(tar)}
    found = [path for path in folder.rglob("*") if "__pycache__" not in path.parts and not path.is_dir()]
    if {path.relative_to(folder).as_posix() for path in found} != expected.keys():
        return False
    return all(_is(folder / path, file) for path, file in expected.items())


def _is(place: Path, file: CodeFile) -> bool:
    try:
        return place.read_bytes() == file.content and stat.S_IMODE(place.lstat().st_mode) == file.mode
    except OSError:
        return False


@dataclass(frozen=True)
class CodeFile:
    path: str
    content: bytes
    mode: int
    """As unpacked: read-only."""


def code_files(tar: bytes) -> Iterator[CodeFile]:
    """The files of a code tar. It holds nothing but plain files with plain names, so nothing else is let through:
    tarfile's data filter would do, but Debian 12's Python 3.11.2 has none.

    Raises:
        KitaruBackendError: it is no tar, or holds a link, a folder, or a name that leads out of its folder.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as entries:
            for entry in entries:
                source = entries.extractfile(entry) if entry.isreg() and _is_plain(entry.name) else None
                if source is None:
                    raise tarfile.TarError(f"{entry.name!r} is no plain file")
                yield CodeFile(entry.name, source.read(), 0o555 if entry.mode & 0o100 else 0o444)
    except tarfile.TarError as error:
        raise KitaruBackendError(
            f"this is not the code of a snapshot: {error}", hint="deploy the flow again"
        ) from error


def _is_plain(name: str) -> bool:
    return not any(part in ("", ".", "..") for part in name.split("/"))


class _Writer:
    """Pushes blobs and counts what was new."""

    def __init__(self, store: BlobStore, new: set[Digest]) -> None:
        self.store = store
        self.new = new
        self.all: dict[Digest, int] = {}

    def push(self, media_type: str, content: bytes) -> Descriptor:
        blob = Descriptor(media_type, sha256_of(content), len(content))
        if not self.store.exists(blob):
            self.new.add(blob.digest)
        self.store.push(blob, io.BytesIO(content))
        self.all[blob.digest] = blob.size
        return blob

    def stored(self, media_type: str, digest: Digest) -> Descriptor:
        if not self.store.exists(digest):
            raise KitaruNotFoundError(f"the wheel {digest} is not in the store", hint="deploy again")
        self.store.touch(digest)
        self.all[digest] = self.store.size(digest)
        return Descriptor(media_type, digest, self.all[digest])

    def counts(self) -> BlobCounts:
        new = [size for digest, size in self.all.items() if digest in self.new]
        return BlobCounts(total=len(self.all), new=len(new), bytes_total=sum(self.all.values()), bytes_new=sum(new))


def _manifest_bytes(manifest: Manifest) -> bytes:
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": _entry(manifest.config),
            "layers": [_entry(layer.blob) | {"annotations": {TITLE: layer.title}} for layer in manifest.layers],
        }
    )


def _entry(blob: Descriptor) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}


def _descriptor(entry: Mapping[str, Any]) -> Descriptor:
    return Descriptor(str(entry["mediaType"]), Digest(entry["digest"]), int(entry["size"]))
