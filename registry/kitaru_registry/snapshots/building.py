"""Wheels of what has none: local packages, source archives, commits. Built once per home, re-packed canonically."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kitaru_registry.errors import KitaruDeployError
from kitaru_registry.snapshots.pip_tool import build_remote
from kitaru_registry.snapshots.selection import Archive, Folder, Remote
from kitaru_registry.snapshots.uv_tool import UvError, run_uv, tool_environment
from kitaru_registry.snapshots.wheels import canonical_wheel

NOT_SOURCE = frozenset({
    ".git", ".hg", ".svn", "__pycache__", ".venv", "venv", "node_modules", ".tox", ".nox", ".eggs",
    ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".idea", ".vscode", ".DS_Store",
})  # fmt: skip
LEFT_BY_BUILDS = frozenset({"build", "dist"})
FORMAT = b"built 1"


@dataclass(frozen=True)
class Builder:
    """How to build: for which interpreter, and where results are kept."""

    interpreter: Path
    target: str
    """The minor and platform that results are for."""
    cache: Path
    tools: Path
    progress: Callable[[str], None]

    def build(self, name: str, source: Folder | Archive | Remote) -> Path:
        """The canonical wheel of a source; its file name is the wheel's.

        Raises:
            KitaruDeployError: it cannot be built; `detail` is what the build said.
        """
        kept = self.cache / "built" / self._key(name, source)
        found = next(kept.glob("*.whl"), None) if kept.is_dir() else None
        if found is not None:
            return found
        self.progress(f"building {name}")
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="build-") as work:
            wheel = self._built(name, source, Path(work))
            return _publish(wheel, kept, Path(work))

    def _built(self, name: str, source: Folder | Archive | Remote, work: Path) -> Path:
        if isinstance(source, Remote):
            return build_remote(name, source.requirement, interpreter=self.interpreter, tools=self.tools, folder=work)
        place = source.path
        if isinstance(source, Folder):
            place = work / "source"
            clean_copy(source.path, place)
        out = work / "out"
        try:
            run_uv(
                ["build", "--wheel", "--python", self.interpreter, "--out-dir", out, place],
                cwd=source.path.parent,
                environment=tool_environment() | {"SOURCE_DATE_EPOCH": "315532800", "PYTHONHASHSEED": "0"},
            )
        except UvError as error:
            raise KitaruDeployError(
                f"the local package {name} in {source.path} cannot be built",
                hint=f"uv build --wheel {source.path}",
                detail=error.explanation,
            ) from error
        return next(out.glob("*.whl"))

    def _key(self, name: str, source: Folder | Archive | Remote) -> str:
        what = source.requirement if isinstance(source, Remote) else fingerprint(source.path)
        parts = [FORMAT, name.encode(), self.target.encode(), what.encode()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()


def fingerprint(path: Path) -> str:
    """A digest of a file, or of the names, modes and contents of a folder's source files; empty if it is gone."""
    hashed = hashlib.sha256()
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if not path.is_dir():
        return ""
    for file in source_files(path):
        executable = os.access(file, os.X_OK)
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        hashed.update(f"{file.relative_to(path).as_posix()}\0{executable:d}\0{content}\n".encode())
    return hashed.hexdigest()


def source_files(folder: Path) -> Iterator[Path]:
    """A package's files, sorted, without version control, caches, environments and what builds leave behind."""
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(name for name in folders if _is_source(here / name, folder))
        for name in sorted(files):
            if name not in NOT_SOURCE and not name.endswith((".pyc", ".pyo")):
                yield here / name


def clean_copy(folder: Path, target: Path) -> None:
    """`target` holds the source files of `folder` and nothing else, with plain modes."""
    target.mkdir()
    for file in source_files(folder):
        copy = target / file.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        copy.chmod(0o755 if os.access(file, os.X_OK) else 0o644)


def _is_source(path: Path, top: Path) -> bool:
    if path.name in NOT_SOURCE or path.name.endswith(".egg-info") or (path / "pyvenv.cfg").exists():
        return False
    return not (path.parent == top and path.name in LEFT_BY_BUILDS)


def _publish(wheel: Path, kept: Path, work: Path) -> Path:
    fresh = work / "kept"
    fresh.mkdir()
    content = canonical_wheel(wheel.read_bytes())
    (fresh / wheel.name).write_bytes(content)
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        fresh.rename(kept)
    except OSError:
        if not kept.is_dir():  # not another deploy that was first: a real failure
            raise
    return next(kept.glob("*.whl"))
