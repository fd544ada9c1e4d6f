"""Every package that a flow needs, as wheels named by their digests: story 1, step 2.

uv resolves. What comes out is PEP 751 with each wheel by relative path and sha256: no index, no time, no host, so that
the same wheels are the same lock wherever they were found. The answer is kept per home: a deploy whose dependency
files did not change runs no tool at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from kitaru_registry.durable import sync
from kitaru_registry.models import Digest
from kitaru_registry.snapshots.sources import Source, find_source
from kitaru_registry.snapshots.wheels import Wheel, writing_in

FORMAT = 1


@dataclass(frozen=True)
class LockedWheel:
    name: str
    version: str
    filename: str
    digest: Digest
    url: str | None
    """Where it was published; never in the lock itself."""
    path: Path | None
    """Where it lies on this machine: built here, Kitaru's own, or from a local index."""


@dataclass(frozen=True)
class Lock:
    text: bytes
    """Canonical PEP 751; the lock blob of a snapshot."""
    wheels: tuple[LockedWheel, ...]
    """By name."""
    warnings: tuple[str, ...] = ()
    source: str = ""
    """What it was made from, in words: `uv.lock`, `no dependency file`."""

    @property
    def digests(self) -> dict[str, Digest]:
        """File name to digest, as the config blob holds them."""
        return {wheel.filename: wheel.digest for wheel in self.wheels}


@dataclass(frozen=True)
class LocalInput:
    """A local package that the answer was made from; another fingerprint makes the answer stale."""

    path: Path
    fingerprint: str


def resolve(
    root: Path,
    *,
    entry: Path,
    requirements: str | None,
    python: str,
    kitaru_wheel: Wheel,
    previous: bytes | None,
    upgrade: bool,
    cache: Path,
    tools: Path,
    interpreter: Path | None = None,
    allow: Collection[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Lock:
    """The wheels that a flow needs on CPython `python` and this platform, Kitaru's runtime among them.

    Args:
        root: the project's folder; relative paths and uv's settings start there.
        entry: the flow's file, absolute or relative to the root.
        requirements: the dependency file that `kitaru.toml` names for the flow.
        python: the minor, or a full version for requirements that tell patch releases apart.
        previous: the lock of the version before: its pins stay where they still fit.
        upgrade: resolve afresh, keeping no pin that the project itself does not hold.
        interpreter: one of that minor, for builds; by default this one, else one that uv finds.
        allow: what the files of local packages may hold although it would be refused, as in `collect`.

    Raises:
        KitaruDeployError: it cannot be resolved or built, `detail` says why; or a file holds credentials.
        KitaruNotFoundError: `requirements` is not there.
        KitaruBackendError: the cache cannot be written.
    """
    root, cache, tools = root.resolve(), cache.resolve(), tools.resolve()
    source = find_source(root, entry=root / entry, requirements=requirements)
    base = _key(source, python=python, kitaru=kitaru_wheel.digest)
    if not upgrade:
        cached = _load(cache / "locks" / _entry_name(base, previous), allow=allow)
        if cached is not None:
            return cached
    # The resolver and what it imports are needed on a miss alone.
    from kitaru_registry.snapshots.resolver import Resolver

    with writing_in(cache):
        resolver = Resolver(
            root=root,
            source=source,
            python=python,
            interpreter=interpreter or _this_interpreter(python),
            kitaru=_published_kitaru(kitaru_wheel, cache),
            upgrade=upgrade,
            cache=cache,
            tools=tools,
            allow=allow,
            progress=progress,
        )
        answer = resolver.resolve(previous=None if upgrade else previous)
        lock = Lock(lock_text(answer.wheels, python=python), answer.wheels, answer.warnings, source.label)
        _keep(lock, answer.inputs, cache=cache, base=base, previous=previous)
    return lock


def lock_text(wheels: Iterable[LockedWheel], *, python: str) -> bytes:
    """Canonical PEP 751: sorted, one wheel each, by `wheels/<filename>` and sha256."""
    minor = ".".join(python.split(".")[:2])
    lines = ['lock-version = "1.0"', 'created-by = "kitaru"', f'requires-python = "=={minor}.*"']
    for wheel in sorted(wheels, key=lambda wheel: wheel.name):
        place = f'path = "wheels/{wheel.filename}", hashes = {{ sha256 = "{wheel.digest.removeprefix("sha256:")}" }}'
        lines += ["", "[[packages]]", f'name = "{wheel.name}"', f'version = "{wheel.version}"']
        lines.append(f"wheels = [{{ {place} }}]")
    return ("\n".join(lines) + "\n").encode()


def _this_interpreter(python: str) -> Path | None:
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Path(sys.executable) if minor == ".".join(python.split(".")[:2]) else None


def _published_kitaru(wheel: Wheel, cache: Path) -> LockedWheel:
    """Kitaru's wheel as a file that uv can read, in a folder that its digest names."""
    folder = cache / "kitaru" / wheel.digest.removeprefix("sha256:")[:16]
    path = folder / wheel.filename
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write_whole(path, wheel.content)
    return LockedWheel("kitaru", wheel.filename.split("-")[1], wheel.filename, wheel.digest, url=None, path=path)


def _key(source: Source, *, python: str, kitaru: Digest) -> str:
    """A digest of all that determines a resolution, the index's state and the previous lock apart."""
    settings = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith("UV_"))
    parts = [str(FORMAT), source.kind, python, sysconfig.get_platform(), kitaru, *settings]
    hashed = hashlib.sha256("\0".join(parts).encode())
    for name, content in source.files:
        hashed.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return hashed.hexdigest()


def _keep(lock: Lock, inputs: Iterable[LocalInput], *, cache: Path, base: str, previous: bytes | None) -> None:
    """Whoever asks with no lock, with the one before or with this one gets this one."""
    for name in {_entry_name(base, text) for text in (None, previous, lock.text)}:
        _save(cache / "locks" / name, lock, inputs)


def _entry_name(base: str, previous: bytes | None) -> str:
    return f"{hashlib.sha256(base.encode() + (previous or b'')).hexdigest()}.json"


def _load(path: Path, *, allow: Collection[str]) -> Lock | None:
    """A kept answer, if every local package is as it was and every local wheel is still there."""
    try:
        kept = json.loads(path.read_bytes())
        if kept["inputs"] and not _unchanged(kept["inputs"], allow=allow):
            return None
        wheels = tuple(
            LockedWheel(w["name"], w["version"], w["filename"], Digest(w["digest"]), w["url"], _path(w["path"]))
            for w in kept["wheels"]
        )
        lock = Lock(kept["text"].encode(), wheels, tuple(kept["warnings"]), kept["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return lock if all(wheel.path is None or wheel.path.exists() for wheel in wheels) else None


def _unchanged(inputs: dict[str, str], *, allow: Collection[str]) -> bool:
    from kitaru_registry.snapshots.building import fingerprint  # few projects have local packages

    return all(fingerprint(Path(path), allow=allow) == known for path, known in inputs.items())


def _save(path: Path, lock: Lock, inputs: Iterable[LocalInput]) -> None:
    kept = {
        "text": lock.text.decode(),
        "wheels": [{**vars(wheel), "path": str(wheel.path) if wheel.path else None} for wheel in lock.wheels],
        "warnings": lock.warnings,
        "source": lock.source,
        "inputs": {str(local.path): local.fingerprint for local in inputs},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(path, json.dumps(kept).encode())


def _write_whole(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
        sync(file)
    Path(file.name).replace(path)


def _path(text: str | None) -> Path | None:
    return Path(text) if text is not None else None
