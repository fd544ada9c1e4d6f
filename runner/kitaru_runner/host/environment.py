"""From a snapshot's lock and wheels to a virtual environment: built offline, never changed, checked before use."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kitaru_registry.durable import sync
from kitaru_registry.errors import KitaruBackendError
from kitaru_registry.home import Home
from kitaru_registry.models import Digest
from kitaru_registry.snapshots.uv_tool import UvError, run_uv
from kitaru_registry.stores.base import BlobStore

FORMAT = 2
MARKER = ".kitaru-complete"
# All that uv may see of the environment: no index, no cache and no settings of the user's lead it elsewhere.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
DESCRIBE = (
    "import json, platform, sys, sysconfig;"
    "print(json.dumps([getattr(sys, '_base_executable', sys.executable), platform.python_version(),"
    " platform.python_implementation(), sysconfig.get_platform()]))"
)


@dataclass(frozen=True)
class Interpreter:
    """A base CPython on this machine, outside of any virtual environment."""

    path: Path
    version: str
    """`3.11.7`"""
    minor: str
    """`3.11`"""
    platform: str
    """`linux-x86_64`"""


@dataclass(frozen=True)
class Environment:
    folder: Path
    python: Path


def find_interpreter(minor: str) -> Interpreter:
    """A CPython of that minor: the one below this process if it fits, else what uv finds; nothing is downloaded.

    Raises:
        KitaruBackendError: this machine has none.
    """
    if minor == _minor(platform.python_version()) and platform.python_implementation() == "CPython":
        found_here = _this_interpreter()
        if found_here.path.exists():
            return found_here
    try:
        asked = ["python", "find", "--no-config", "--no-project", "--system", f"cpython@{minor}"]
        found = run_uv(asked, cwd=Path("/")).strip()
        output = subprocess.run([found, "-I", "-c", DESCRIBE], capture_output=True, text=True, check=True).stdout
        base, version, implementation, system = json.loads(output)
    except (UvError, OSError, subprocess.SubprocessError, ValueError) as error:
        raise _no_interpreter(minor) from error
    if implementation != "CPython" or _minor(version) != minor:
        raise _no_interpreter(minor)
    return Interpreter(Path(base).resolve(), version, minor, system)


def environment_for(
    home: Home, *, lock: bytes, wheels: Mapping[str, Digest], store: BlobStore, minor: str
) -> Environment:
    """The environment of a lock for a minor of Python: as `ensure_environment`, for the interpreter that is found.

    Where none is, or no new environment can be built, one that was built before, by whichever interpreter.

    Raises:
        KitaruBackendError: there is none either, or its interpreter is gone.
    """
    try:
        interpreter = find_interpreter(minor)
        found = ensure_environment(home, lock=lock, wheels=wheels, store=store, interpreter=interpreter)
        if found.python.exists():
            return found
        raise KitaruBackendError(
            f"the interpreter {interpreter.path} is gone", hint=f"install CPython {minor} there again"
        )
    except KitaruBackendError:
        built = find_built(home, lock=lock, minor=minor)
        if built is None:
            raise
        return built


def find_built(home: Home, *, lock: bytes, minor: str) -> Environment | None:
    """An environment of that lock that is whole, and whose interpreter, of that minor, is still there."""
    for settings in sorted(home.environments.resolve().glob("*/pyvenv.cfg")):
        folder = settings.parent
        python = folder / "bin" / "python"
        version = version_of(settings)
        if version is None or _minor(version) != minor or not python.exists():
            continue
        interpreter = Interpreter(python.resolve(), version, minor, sysconfig.get_platform())
        if folder.name == environment_key(lock, interpreter) and _is_intact(folder):
            return Environment(folder, python)
    return None


def version_of(settings: Path) -> str | None:
    """The full version of the Python that a virtual environment was made with, as its pyvenv.cfg says."""
    with contextlib.suppress(OSError, ValueError):
        for line in settings.read_text().splitlines():
            name, _, value = line.partition("=")
            if name.strip() in ("version_info", "version"):
                return value.strip()
    return None


def ensure_environment(
    home: Home,
    *,
    lock: bytes,
    wheels: Mapping[str, Digest],
    store: BlobStore,
    interpreter: Interpreter,
    progress: Callable[[str], None] = lambda _: None,
) -> Environment:
    """The environment of a lock for an interpreter: the one that is there if nothing in it changed, else a new one.

    Needs no network and no cache: its wheels come from the store, verified. The folder is read-only, and visible
    whole or not at all; of several processes one builds it.

    Args:
        wheels: file name to digest, as in the snapshot's config.

    Raises:
        KitaruBackendError: a wheel is missing, the disk is full, or uv failed.
        KitaruDigestMismatchError: a wheel in the store is damaged.
    """
    folder = home.environments.resolve() / environment_key(lock, interpreter)
    environment = Environment(folder, folder / "bin" / "python")
    if _is_intact(folder):
        return environment
    try:
        home.environments.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".building"), fcntl.LOCK_EX):
            if not _is_intact(folder):
                progress("building the environment")
                _build(folder, lock=lock, wheels=wheels, store=store, interpreter=interpreter)
    except OSError as error:
        raise KitaruBackendError(
            f"the environment {folder} cannot be built: {error.strerror or error}",
            hint="free disk space, or set KITARU_HOME to another folder",
        ) from error
    return environment


@contextlib.contextmanager
def shared_lock(environment: Environment) -> Iterator[int]:
    """An inheritable file descriptor that says the environment is in use, for as long as anybody holds it open.

    Give it to a child by `pass_fds`: the lock ends with the last process that holds it. Who wants to remove the
    environment needs the exclusive lock on the same file.
    """
    with _locked(environment.folder.with_suffix(".used"), fcntl.LOCK_SH) as descriptor:
        os.set_inheritable(descriptor, True)
        yield descriptor


def environment_key(lock: bytes, interpreter: Interpreter) -> str:
    """The folder's name: another lock, interpreter, patch release or platform is another environment."""
    parts = [str(FORMAT), hashlib.sha256(lock).hexdigest(), str(interpreter.path)]
    parts += [interpreter.version, interpreter.platform]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def remove_environment(folder: Path) -> None:
    """The read-only tree is gone."""
    if not folder.exists():
        return
    for parent, folders, _ in os.walk(folder):
        for name in (".", *folders):
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder)


def _build(
    folder: Path, *, lock: bytes, wheels: Mapping[str, Digest], store: BlobStore, interpreter: Interpreter
) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".building-") as work_name:
        work = Path(work_name)
        _materialise(work, lock=lock, wheels=wheels, store=store)
        fresh = work / "environment"
        _install(work, fresh, interpreter)
        _make_read_only(fresh)
        # Marker last: it lists what must be there.
        marker = fresh / MARKER
        fresh.chmod(0o755)
        _write_synced(marker, _listing(fresh))
        fresh.chmod(0o555)
        _replace(folder, fresh, work)


def _materialise(work: Path, *, lock: bytes, wheels: Mapping[str, Digest], store: BlobStore) -> None:
    """The lock and, beside it, links to its verified wheels in the store."""
    (work / "wheels").mkdir()
    for filename, digest in wheels.items():
        if Path(filename).name != filename:
            raise KitaruBackendError(f"the snapshot names a wheel {filename!r}, which is no file name")
        (work / "wheels" / filename).symlink_to(store.path(digest).resolve())
    (work / "pylock.toml").write_bytes(lock)


def _install(work: Path, fresh: Path, interpreter: Interpreter) -> None:
    own = {name: os.environ[name] for name in INHERITED if name in os.environ}
    # A cache of its own, gone afterwards: hard links into it cost nothing and tie the environment to nobody's cache.
    own |= {"UV_CACHE_DIR": str(work / "cache"), "UV_OFFLINE": "1", "UV_NO_CONFIG": "1", "UV_LINK_MODE": "hardlink"}
    try:
        venv: list[str | Path] = ["venv", "-q", "--relocatable", "--no-project", "--python", interpreter.path, fresh]
        run_uv(venv, cwd=work, environment=own)
        sync = ["pip", "sync", "-q", "--no-index", "--no-build", "--compile-bytecode", "--strict"]
        run_uv([*sync, "--python", fresh / "bin" / "python", "pylock.toml"], cwd=work, environment=own)
    except UvError as error:
        raise KitaruBackendError(
            f"the environment cannot be built with {interpreter.path}: {error.explanation}",
            hint="kitaru doctor",
        ) from error


def _make_read_only(folder: Path) -> None:
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *folders):
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o555)


def _replace(folder: Path, fresh: Path, work: Path) -> None:
    """`fresh` becomes `folder`; what was there, damaged, is removed. A child that runs in it finds the path again."""
    if folder.exists():
        damaged = work / "damaged"
        folder.chmod(0o700)
        folder.rename(damaged)
        fresh.chmod(0o700)
        fresh.rename(folder)
        folder.chmod(0o555)
        remove_environment(damaged)
        return
    # Moving a folder to another parent rewrites its `..`, which a read-only one forbids.
    fresh.chmod(0o700)
    fresh.rename(folder)
    folder.chmod(0o555)


def _is_intact(folder: Path) -> bool:
    """Whether the environment is complete and every file has the size, mode and time that it was published with."""
    try:
        return (folder / MARKER).read_bytes() == _listing(folder)
    except OSError:
        return False


def _listing(folder: Path) -> bytes:
    """A digest over path, mode, size and time of everything below; contents are not read."""
    start = len(str(folder))
    lines: list[str] = []
    pending = [str(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                lines.append(f"{entry.path[start:]}\0{facts.st_mode}\0{facts.st_size}\0{facts.st_mtime_ns}\n")
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    lines = [line for line in lines if not line.startswith(f"/{MARKER}\0")]
    lines.sort()
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest().encode()


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        sync(file)
    path.chmod(0o444)


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind)
        yield descriptor
    finally:
        os.close(descriptor)


@functools.cache
def _this_interpreter() -> Interpreter:
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    version = platform.python_version()
    return Interpreter(base, version, _minor(version), sysconfig.get_platform())


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _no_interpreter(minor: str) -> KitaruBackendError:
    return KitaruBackendError(
        f"this machine has no CPython {minor}", hint=f"install it (uv python install {minor}), or set another `python`"
    )
