"""Which files of a project go into a snapshot, and what they hold.

The answer depends on the tree alone: not on the order in which files were made, on owners, times or
umask, nor on whether a file is committed yet.
"""

from __future__ import annotations

import bisect
import collections.abc
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kitaru_registry.canonical import canonical_json, sha256_of
from kitaru_registry.errors import KitaruBackendError, KitaruDeployError, KitaruUsageError
from kitaru_registry.models import Digest
from kitaru_registry.names import nearest
from kitaru_registry.snapshots.choice import FOLDER_MARKERS, Choice
from kitaru_registry.snapshots.git import GitState, ignored_by_git
from kitaru_registry.snapshots.own_output import without_own_outputs
from kitaru_registry.snapshots.refusals import ALLOWED, Refusal, scan, too_much
from kitaru_registry.snapshots.root_project import dist_info

MOST_FILES_LISTED = 200_000
"""Where a folder without git holds more, it is no project but a disk."""


@dataclass(frozen=True)
class CollectedFile:
    """One file of a snapshot."""

    path: str
    """Relative to the root, with slashes."""
    executable: bool
    size: int
    sha256: str
    """64 hex digits."""


@dataclass(frozen=True)
class Collection:
    """The files that a snapshot's code blob is made of, sorted by path."""

    files: tuple[CollectedFile, ...]
    digest: Digest
    """Over paths, modes and contents."""
    places: Mapping[str, Path] = field(repr=False, compare=False)
    """Where each path's bytes are; elsewhere than the path says for a symbolic link."""
    generated: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False)
    """The bytes of files that no folder holds: the root project's dist-info."""

    def read(self, path: str) -> bytes:
        """The bytes that were collected.

        Raises:
            KitaruUsageError: no such path was collected.
            KitaruDeployError: the file has changed since.
        """
        if path in self.generated:
            return self.generated[path]
        index = bisect.bisect_left(self.files, path, key=lambda file: file.path)
        if path not in self.places:
            near = nearest(path, self.places)
            raise KitaruUsageError(
                f"{path} is not among the files of the snapshot",
                hint=f"did you mean {near}?" if near else "is it ignored by git, or not in this project?",
            )
        content = _read(path, self.places[path])
        if hashlib.sha256(content).hexdigest() != self.files[index].sha256:
            raise KitaruDeployError(f"{path} changed while it was being deployed", hint="deploy again")
        return content


def collect(
    root: Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    allow: collections.abc.Collection[str] = (),
    git: GitState | None,
    project: str = "",
) -> Collection:
    """Read the files of the project in `root`: what git tracks or would, minus what does not run.

    Args:
        include: patterns in `.gitignore` syntax; only what they match. Empty: everything. What one names that git
            ignores is taken in too.
        exclude: patterns of what to leave out, beside `.kitaruignore`.
        allow: names out of `ALLOWED`, for what would be refused.
        git: of this same root. Without it, every file below it but what the root's `.gitignore` names.
        project: the folder of the project that gets a dist-info, relative to the root: empty, or `packages/app`.

    A symbolic link to a file inside the root is stored as that file, one to a folder as the folder's files. What this
    process's own output goes into is left out. With `link` or `submodule` allowed, those that cannot be stored are
    left out.

    Raises:
        KitaruDeployError: it holds what must not be deployed; every such thing is named, no secret shown.
        KitaruUsageError: `allow` has an unknown name, or nothing is left to deploy.
    """
    _check_allowed(allow)
    root = root.absolute()
    choice = Choice(root, include, exclude, has_git=git is not None)
    candidates = [*git.files, *_taken_in(root, choice, prefix=git.prefix)] if git else list(_walk(root, choice))
    places, odd = _without_links(root, choice.of(candidates), candidates)
    places = without_own_outputs(places)
    if not places and not odd:
        raise KitaruUsageError(f"no file is left to deploy in {root}", hint="check include, exclude and .kitaruignore")
    sizes = {path: place.stat().st_size for path, place in places.items()}
    _refuse([*_missing_submodules(git, choice), *odd, *too_much(sizes)], allow)
    files, found = _read_all(places)
    _refuse(found, allow)
    about = f"{project}/pyproject.toml" if project else "pyproject.toml"
    generated = dist_info(_read(about, places[about])) if about in places else {}
    files = tuple(sorted((*files, *(_generated(*item) for item in generated.items())), key=lambda file: file.path))
    return Collection(files, _digest_of(files), places, generated)


def _check_allowed(allow: Iterable[str]) -> None:
    for name in allow:
        if name not in ALLOWED:
            near = nearest(name, ALLOWED)
            hint = f"did you mean {near}? " if near else ""
            raise KitaruUsageError(f"--allow {name} is unknown", hint=f"{hint}known: {', '.join(ALLOWED)}")


def _walk(root: Path, choice: Choice) -> Iterator[str]:
    """Every file and link below the root, but in folders that are left out as a whole."""
    count = 0
    for folder, folders, files in os.walk(root):
        prefix = Path(folder).relative_to(root).as_posix() + "/" if Path(folder) != root else ""
        linked = [name for name in folders if Path(folder, name).is_symlink()]
        folders[:] = [n for n in folders if n not in linked and not choice.leaves_out(f"{prefix}{n}/")]
        if prefix and FOLDER_MARKERS.intersection(files):
            folders.clear()
            continue
        for name in [*files, *linked]:
            if stat.S_IFMT(Path(folder, name).lstat().st_mode) in (stat.S_IFREG, stat.S_IFLNK):
                yield prefix + name
        count += len(files)
        if count > MOST_FILES_LISTED:
            raise KitaruDeployError(
                f"{root} holds more than {MOST_FILES_LISTED:,} files: it does not look like a project",
                hint="put a kitaru.toml into the project's folder, or leave folders out in .kitaruignore",
            )


def _taken_in(root: Path, choice: Choice, *, prefix: str) -> Iterator[str]:
    """What git ignores and `include` or `.kitaruignore` names."""
    for ignored in ignored_by_git(root, prefix=prefix) if choice.names_files else ():
        if not ignored.endswith("/"):
            yield from (path for path in (ignored,) if choice.names(path))
        elif choice.reaches(ignored):
            inside = (p for p in sorted((root / ignored).rglob("*")) if p.is_file() and ".git" not in p.parts)
            paths = (path.relative_to(root).as_posix() for path in inside)
            yield from (path for path in paths if choice.names(path, ignored=ignored))


def _missing_submodules(git: GitState | None, choice: Choice) -> list[Refusal]:
    missing = [path for path in (git.missing_submodules if git else ()) if choice.has(f"{path}/file")]
    what = "a submodule that is not checked out; run git submodule update --init --recursive"
    return [Refusal("submodule", path, None, what) for path in missing]


def _without_links(
    root: Path, chosen: Sequence[str], candidates: Sequence[str]
) -> tuple[dict[str, Path], list[Refusal]]:
    """Where the bytes of each path are, links followed; and the links that cannot be. Names are checked too."""
    places: dict[str, Path] = {}
    refused: list[Refusal] = []
    for path in chosen:
        _check_path(path)
        if not (root / path).is_symlink():
            places[path] = root / path
            continue
        try:
            places |= _behind_link(path, root, candidates)
        except _BadLink as bad:
            refused.append(Refusal("link", path, None, f"a symbolic link that {bad}"))
    return dict(sorted(places.items())), refused


class _BadLink(Exception):
    """Why a link cannot be stored."""


def _check_path(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise KitaruDeployError(
            f"the name of {path!r} is not UTF-8", hint="rename the file, or leave it out in .kitaruignore"
        ) from error


def _behind_link(path: str, root: Path, candidates: Sequence[str]) -> dict[str, Path]:
    """The file that a link stands for, or under the link's own path the files of its folder."""
    target = _target_of(root / path, root.resolve())
    if target.is_file():
        return {path: target}
    prefix = target.relative_to(root.resolve()).as_posix() + "/"
    inside = {name.removeprefix(prefix): root / name for name in candidates if name.startswith(prefix)}
    for place in inside.values():
        if place.is_symlink():
            raise _BadLink(f"points to a folder with a further link, {place.relative_to(root)}")
    return {f"{path}/{name}": place for name, place in inside.items()}


def _target_of(link: Path, root: Path) -> Path:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        raise _BadLink("points to nothing") from None
    if not target.is_relative_to(root):
        raise _BadLink("points out of the project")
    if ".git" in target.relative_to(root).parts:
        raise _BadLink("points into the repository's own files")
    if link.parent.resolve().is_relative_to(target):
        raise _BadLink("points to a folder that holds it")
    return target


def _refuse(found: Sequence[Refusal], allow: collections.abc.Collection[str]) -> None:
    refusals = [refusal for refusal in found if refusal.allow not in allow]
    if not refusals:
        return
    names = sorted({refusal.allow for refusal in refusals})
    also = f", and {len(refusals) - 1} more" if len(refusals) > 1 else ""
    raise KitaruDeployError(
        f"refused to deploy {refusals[0]}{also}",
        hint="remove it, leave it out in .kitaruignore, or deploy with " + " ".join(f"--allow {n}" for n in names),
        detail="\n".join(str(refusal) for refusal in refusals) if also else None,
    )


def _read_all(places: Mapping[str, Path]) -> tuple[tuple[CollectedFile, ...], list[Refusal]]:
    files: list[CollectedFile] = []
    refused: list[Refusal] = []
    for path, place in places.items():
        content = _read(path, place)
        executable = bool(place.stat().st_mode & stat.S_IXUSR)
        files.append(CollectedFile(path, executable, len(content), hashlib.sha256(content).hexdigest()))
        refused += scan(path, content, target=place.name)
    return tuple(files), refused


def _generated(path: str, content: bytes) -> CollectedFile:
    return CollectedFile(path, False, len(content), hashlib.sha256(content).hexdigest())


def _read(path: str, place: Path) -> bytes:
    try:
        return place.read_bytes()
    except OSError as error:
        raise KitaruBackendError(
            f"cannot read {path}: {error.strerror}", hint=f"see who may read it, or add {path} to .kitaruignore"
        ) from error


def _digest_of(files: Sequence[CollectedFile]) -> Digest:
    return sha256_of(canonical_json([[file.path, file.executable, file.sha256] for file in files]))
