"""Wheels of what has none: local packages, source archives, commits. Built once per home, re-packed canonically."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from kitaru_registry.errors import KitaruDeployError
from kitaru_registry.snapshots import files
from kitaru_registry.snapshots.git import read_git
from kitaru_registry.snapshots.pip_tool import build_remote
from kitaru_registry.snapshots.selection import Archive, Folder, Remote
from kitaru_registry.snapshots.uv_tool import UvError, run_uv, tool_environment
from kitaru_registry.snapshots.wheels import canonical_wheel

LEFT_BY_BUILDS = ("/build/", "/dist/")
FORMAT = b"built 1"


@dataclass(frozen=True)
class Builder:
    """How to build: for which interpreter, and where results are kept."""

    interpreter: Path
    target: str
    """The minor and platform that results are for."""
    cache: Path
    tools: Path
    allow: Collection[str]
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
            clean_copy(source.path, place, allow=self.allow)
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
        what = source.requirement if isinstance(source, Remote) else fingerprint(source.path, allow=self.allow)
        parts = [FORMAT, name.encode(), self.target.encode(), what.encode()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()


def fingerprint(path: Path, *, allow: Collection[str]) -> str:
    """A digest of a file, or of the paths, modes and contents of a package's files; empty if it is gone."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return package_files(path, allow=allow).digest if path.is_dir() else ""


def package_files(folder: Path, *, allow: Collection[str]) -> files.Collection:
    """What a local package is built from: chosen, and refused, like the files of the project itself."""
    git = read_git(folder)
    # Where nobody says what is source, what an earlier build left would be packed again.
    return files.collect(folder, exclude=() if git else LEFT_BY_BUILDS, allow=allow, git=git)


def clean_copy(folder: Path, target: Path, *, allow: Collection[str]) -> None:
    """`target` holds the package's files and nothing else, with plain modes."""
    package = package_files(folder, allow=allow)
    for file in package.files:
        copy = target / file.path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(package.read(file.path))
        copy.chmod(0o755 if file.executable else 0o644)


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
