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
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from kitaru_registry.durable import sync
from kitaru_registry.models import Digest
from kitaru_registry.snapshots.packages import FILE_STATE, LocalInput, Lock, LockedWheel, state_of_file
from kitaru_registry.snapshots.sharing import may_share
from kitaru_registry.snapshots.sources import Source, find_source
from kitaru_registry.snapshots.wheels import Wheel, writing_in

FORMAT = 2
SETTINGS_FILES = ("UV_CONFIG_FILE", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_BUILD_CONSTRAINT")


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
    keys = _keys(source, root=root, python=python, kitaru=kitaru_wheel.digest)
    kept = None if upgrade else _kept(keys, cache=cache, previous=previous, allow=allow)
    if kept is not None:
        return kept
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
        # An answer that holds in every folder has no input inside of one.
        key = keys[0] if any(local.path.is_relative_to(root) for local in answer.inputs) else keys[-1]
        _keep(lock, answer.inputs, cache=cache, key=key, previous=previous)
    return lock


def _kept(keys: Iterable[str], *, cache: Path, previous: bytes | None, allow: Collection[str]) -> Lock | None:
    """The answer that an earlier deploy has kept, where it still holds."""
    found = (_load(cache / "locks" / _entry_name(key, previous), allow=allow) for key in keys)
    return next((lock for lock in found if lock is not None), None)


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


def _keys(source: Source, *, root: Path, python: str, kitaru: Digest) -> tuple[str, ...]:
    """Digests of all that determines a resolution, the index's state and the previous lock apart.

    The first is for this folder; where others may share its answer, a second is for all that have the same files.
    """
    settings = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith("UV_"))
    parts = [str(FORMAT), source.kind, python, sysconfig.get_platform(), kitaru, *settings]
    shared = hashlib.sha256("\0".join(parts).encode())
    for name, content in (*source.files, *_files_of_settings(source.project or root)):
        shared.update(f"\0{name}\0{len(content)}\0".encode() + content)
    own = shared.copy()
    # The file too: of two scripts with one block, each means what is beside itself.
    own.update(f"\0in {root}\0{source.path}".encode(errors="surrogateescape"))
    return (own.hexdigest(), shared.hexdigest()) if may_share(source, os.environ) else (own.hexdigest(),)


def _files_of_settings(project: Path) -> Iterator[tuple[str, bytes]]:
    """Files outside of the project that uv reads, by the variable or place that names them."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    named = [(name, Path(place)) for name in SETTINGS_FILES for place in os.environ.get(name, "").split()]
    for name, path in (*named, ("user", config / "uv" / "uv.toml"), ("system", Path("/etc/uv/uv.toml"))):
        if content := _content(path):
            yield name, content
    for path in (folder / name for folder in project.parents for name in ("uv.toml", "pyproject.toml")):
        content = _content(path)
        # What a path in them means depends on where they are.
        if content and (path.name == "uv.toml" or b"[tool.uv" in content):
            yield str(path), content


def _content(path: Path) -> bytes:
    """Empty where there is no such file, or none that can be read: uv says so itself."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _keep(lock: Lock, inputs: Iterable[LocalInput], *, cache: Path, key: str, previous: bytes | None) -> None:
    """Whoever asks with no lock, with the one before or with this one gets this one."""
    for name in {_entry_name(key, text) for text in (None, previous, lock.text)}:
        _save(cache / "locks" / name, lock, inputs)


def _entry_name(key: str, previous: bytes | None) -> str:
    return f"{hashlib.sha256(key.encode() + (previous or b'')).hexdigest()}.json"


def _load(path: Path, *, allow: Collection[str]) -> Lock | None:
    """A kept answer, if every local package is as it was and every local wheel is still there."""
    try:
        kept = json.loads(path.read_bytes())
        if not _unchanged(kept["inputs"], allow=allow):
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
    return all(_state(Path(path), known, allow=allow) == known for path, known in inputs.items())


def _state(path: Path, known: str, *, allow: Collection[str]) -> str:
    if known.startswith(FILE_STATE):
        return state_of_file(path)
    from kitaru_registry.snapshots.building import fingerprint  # few projects have local packages

    return fingerprint(path, allow=allow)


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
