"""Wheels: Kitaru's own, canonical re-packing, and the way of every locked wheel into the store."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru_registry.canonical import sha256_of, sha256_of_file
from kitaru_registry.errors import (
    KitaruBackendError,
    KitaruDeployError,
    KitaruDigestMismatchError,
    KitaruNotFoundError,
)
from kitaru_registry.models import Digest
from kitaru_registry.stores.base import BlobStore, Descriptor

if TYPE_CHECKING:
    from kitaru_registry.snapshots.packages import Lock, LockedWheel

WHEEL_MEDIA_TYPE = "application/vnd.kitaru.wheel.v1+zip"
RUNTIME_ROOMS = ("kitaru_registry/journal", "kitaru_runner/child", "kitaru_runner/engine", "kitaru_runner/values")
"""What of ours a child may import: whatever else changes makes no new version of anybody's flow."""
RUNTIME_MODULES = {
    "kitaru_registry": ("__init__", "clock", "durable", "errors", "home", "names", "toml_text"),
    "kitaru_runner": ("__init__",),
    "kitaru": (
        "__init__", "artifacts", "checkpoints", "children", "decorating", "definition", "door", "execution",
        "flow_options", "flows", "handle", "inputs", "invoking", "noted", "waiting",
    ),
}  # fmt: skip
RUNTIME_FACES = ("kitaru/client.py", "kitaru/replaying.py", "kitaru/running.py")
"""In place of these is kitaru/refusing.py there."""
# Not the dependencies of the distribution: a flow's environment holds what a child imports, nothing else.
RUNTIME_REQUIRES = ("cloudpickle", "pydantic>=2")
EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Wheel:
    filename: str
    digest: Digest
    content: bytes


def kitaru_wheel() -> Wheel:
    """The runtime that goes into every snapshot: the same bytes from an installed and from an editable Kitaru."""
    release = version("kitaru")
    files = {name: path.read_bytes() for name, path in runtime_files().items()}
    info = f"kitaru-{release}.dist-info"
    files[f"{info}/METADATA"] = _runtime_metadata(release)
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: kitaru\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content = _canonical_zip(files, executables=frozenset(), record=f"{info}/RECORD")
    return Wheel(filename=f"kitaru-{release}-py3-none-any.whl", digest=sha256_of(content), content=content)


def canonical_wheel(content: bytes) -> bytes:
    """The same wheel with its bytes depending on nothing but what is in it.

    Sorted, stored, dated 1980, modes 0644 or 0755, with a new RECORD; the name of the tool that built it is left out.

    Raises:
        KitaruDeployError: not a wheel.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            files = {member.filename: archive.read(member) for member in members}
            executables = frozenset(m.filename for m in members if (m.external_attr >> 16) & 0o111)
        wheel_file = next(name for name in files if name.endswith(".dist-info/WHEEL") and name.count("/") == 1)
    except (zipfile.BadZipFile, StopIteration) as error:
        raise KitaruDeployError("a build produced a file that is not a wheel") from error
    info = wheel_file.removesuffix("/WHEEL")
    files[wheel_file] = _without_generator(files[wheel_file])
    signatures = (f"{info}/RECORD", f"{info}/RECORD.jws", f"{info}/RECORD.p7s")
    kept = {name: data for name, data in files.items() if name not in signatures}
    return _canonical_zip(kept, executables=executables, record=f"{info}/RECORD")


def fetch_wheels(
    lock: Lock,
    store: BlobStore,
    *,
    python: str,
    tools: Path,
    cache: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Every wheel of the lock is in the store, as published and verified against its digest.

    One that is there is read: a version must not share bytes that were damaged since. Those are replaced.

    Raises:
        KitaruDigestMismatchError: an index or a file holds other bytes than were locked; they were not stored.
        KitaruDeployError: a wheel cannot be downloaded.
    """
    remote = []
    for wheel in lock.wheels:
        if _is_whole(store, wheel.digest):
            store.touch(wheel.digest)
        elif wheel.path is not None:
            _push(store, wheel, wheel.path)
        else:
            remote.append(wheel)
    if remote:
        _download(remote, store, python=python, tools=tools, cache=cache, progress=progress)


def _is_whole(store: BlobStore, digest: Digest) -> bool:
    try:
        store.open(digest).close()
    except (KitaruNotFoundError, KitaruDigestMismatchError):
        return False
    return True


@contextmanager
def writing_in(folder: Path) -> Iterator[None]:
    """A failing disk below the block is one clear error that names the file."""
    try:
        yield
    except OSError as error:
        raise KitaruBackendError(
            f"cannot write {error.filename or folder}: {error.strerror or error}",
            hint="free disk space, or set KITARU_HOME to another folder",
        ) from error


def _download(
    wheels: Iterable[LockedWheel],
    store: BlobStore,
    *,
    python: str,
    tools: Path,
    cache: Path,
    progress: Callable[[str], None],
) -> None:
    from kitaru_registry.snapshots.pip_tool import download  # a deploy with nothing to fetch needs no pip

    wanted = list(wheels)
    progress(f"fetching {len(wanted)} wheel{'s' if len(wanted) > 1 else ''}")
    lines = [f"{wheel.name} @ {wheel.url} --hash={wheel.digest}" for wheel in wanted]
    with writing_in(cache), download(lines, python=python, tools=tools, cache=cache) as folder:
        # Found by what they hold: pip names a file by its address, which need not end in the wheel's name.
        files = {_digest_of(path): path for path in folder.iterdir()}
        for wheel in wanted:
            _push(store, wheel, files.get(wheel.digest, folder / wheel.filename))


def _digest_of(path: Path) -> Digest:
    with path.open("rb") as content:
        return sha256_of_file(content)


def _push(store: BlobStore, wheel: LockedWheel, path: Path) -> None:
    try:
        with path.open("rb") as content:
            size = os.fstat(content.fileno()).st_size
            store.push(Descriptor(media_type=WHEEL_MEDIA_TYPE, digest=wheel.digest, size=size), content)
    except FileNotFoundError as error:
        raise KitaruDeployError(
            f"the locked wheel {wheel.filename} is gone from {path}", hint="deploy again with --upgrade"
        ) from error
    except KitaruDigestMismatchError as error:
        raise KitaruDigestMismatchError(wheel.digest, str(path)) from error


def _package_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise KitaruDeployError(f"the package {package} is not installed", hint="pip install --force-reinstall kitaru")
    return Path(next(iter(spec.submodule_search_locations)))


def runtime_files() -> dict[str, Path]:
    """The modules of ours that a child may import: their names in the wheel, and where each is here."""
    folders = {package: _package_folder(package) for package in RUNTIME_MODULES}
    found = {
        f"{package}/{name}.py": folders[package] / f"{name}.py"
        for package in folders
        for name in RUNTIME_MODULES[package]
    }
    for room in RUNTIME_ROOMS:
        package = room.partition("/")[0]
        folder = folders[package].parent
        found |= {path.relative_to(folder).as_posix(): path for path in (folder / room).rglob("*.py")}
    return found | dict.fromkeys(RUNTIME_FACES, folders["kitaru"] / "refusing.py")


def _runtime_metadata(release: str) -> bytes:
    lines = ["Metadata-Version: 2.1", "Name: kitaru", f"Version: {release}", "Requires-Python: >=3.11"]
    lines += [f"Requires-Dist: {requirement}" for requirement in RUNTIME_REQUIRES]
    return "\n".join([*lines, ""]).encode()


def _without_generator(wheel_file: bytes) -> bytes:
    lines = wheel_file.decode().splitlines()
    return "".join(f"{'Generator: kitaru' if line.startswith('Generator:') else line}\n" for line in lines).encode()


def _canonical_zip(files: Mapping[str, bytes], *, executables: frozenset[str], record: str) -> bytes:
    whole = {**files, record: _record(files, record)}
    # The dist-info comes last, as PEP 427 asks, so that a reader finds it near the zip's directory.
    order = sorted(whole, key=lambda name: (".dist-info/" in name, name))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in order:
            member = zipfile.ZipInfo(name, EPOCH)
            member.create_system = 3
            member.external_attr = (0o100755 if name in executables else 0o100644) << 16
            archive.writestr(member, whole[name])
    return buffer.getvalue()


def _record(files: Mapping[str, bytes], record: str) -> bytes:
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    for name in sorted(files):
        hashed = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={hashed}", len(files[name])])
    rows.writerow([record, "", ""])
    return buffer.getvalue().encode()
