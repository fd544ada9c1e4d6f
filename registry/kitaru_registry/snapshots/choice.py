"""Which of the files that exist are meant: `include`, `exclude`, `.kitaruignore`, and what no project means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from kitaru_registry.errors import KitaruUsageError

IGNORE_FILE = ".kitaruignore"
WILDCARD = re.compile(r"[*?\[]")
NEVER_COLLECTED = ("/kitaru.toml", "/.kitaruignore", "/.github/", ".git")
"""Changed without any change to what runs; `.git` is a file in a submodule."""

MADE_BY_TOOLS = (
    *("__pycache__/", "*.pyc", "*.pyo", ".venv/", "node_modules/", "*.egg-info/", ".DS_Store", ".hg/", ".svn/"),
    *(".mypy_cache/", ".pytest_cache/", ".ruff_cache/", ".hypothesis/", ".ipynb_checkpoints/", ".tox/", ".nox/"),
)
"""Left out whether git ignores them or not; a line `!node_modules/` in `.kitaruignore` takes them back in."""

FOLDER_MARKERS = frozenset({"pyvenv.cfg", "kitaru.db"})
"""A folder that holds one of these is a virtual environment, or a home of Kitaru: left out as a whole."""


class Choice:
    """Which of the paths that exist are meant, and why another is not."""

    def __init__(self, root: Path, include: Sequence[str], exclude: Sequence[str], *, has_git: bool) -> None:
        ignored = [] if has_git else _lines(root / ".gitignore")
        ours = _lines(root / IGNORE_FILE)
        self._ignored = _spec(ignored)
        self._out = _spec([*MADE_BY_TOOLS, *ours, *exclude])
        self._ours = _spec(ours)
        self._exclude = _spec(exclude)
        self._never = _spec(NEVER_COLLECTED)
        self._only = _spec(include) if include else None
        taken = [*include, *(line[1:] for line in ours if line.startswith("!"))]
        self._naming = [(pattern, _spec([pattern])) for pattern in taken if not pattern.startswith(("!", "#"))]

    @property
    def names_files(self) -> bool:
        """Whether some pattern may mean files that git ignores."""
        return bool(self._naming)

    def has(self, path: str) -> bool:
        if self.leaves_out(path):
            return False
        return self._only is None or self._only.match_file(path)

    def leaves_out(self, path: str) -> bool:
        """Whether a file, or with a slash at its end a folder as a whole, is out whatever `include` says of others."""
        if self._never.match_file(path) or self._out.match_file(path):
            return True
        if not self._ignored.match_file(path):
            return False
        return not (self.reaches(path) if path.endswith("/") else self.names(path, ignored=self._ignored_folder(path)))

    def names(self, path: str, *, ignored: str = "") -> bool:
        """Whether a pattern means this file, and not only a folder above it that happens to hold ignored files.

        Args:
            ignored: the folder, with a slash, that is ignored as a whole and holds the file.
        """
        above = [f"{folder}/" for folder in PurePosixPath(path).parents if folder.parts]
        above = [folder for folder in above if not (ignored and folder.startswith(ignored))]
        return any(
            spec.match_file(path)
            and not any(spec.match_file(folder) for folder in above)
            and (_is_a_name(pattern) or (bool(ignored) and _start(pattern).startswith(ignored)))
            for pattern, spec in self._naming
        )

    def reaches(self, folder: str) -> bool:
        """Whether a pattern speaks of something in an ignored folder, or of all of it."""
        starts = (_start(pattern) for pattern, _ in self._naming)
        return any(start.startswith(folder) or folder.startswith(start) for start in starts if start)

    def of(self, paths: Sequence[str]) -> list[str]:
        marked = tuple(path.removesuffix(name) for path in paths if (name := path.rpartition("/")[2]) in FOLDER_MARKERS)
        # A marker in the root itself would leave out everything.
        marked = tuple(folder for folder in marked if folder)
        return [path for path in paths if self.has(path) and not path.startswith(marked)]

    def reason(self, path: str) -> str:
        """What leaves out a file that is there."""
        if self._exclude.match_file(path):
            return "`exclude` leaves it out"
        if self._ours.match_file(path):
            return f"{IGNORE_FILE} leaves it out"
        if self._never.match_file(path) or self._out.match_file(path):
            return "it is among what tools make, and no project means"
        if self._only is not None and not self._only.match_file(path):
            return "`include` leaves it out"
        return "git ignores it"

    def _ignored_folder(self, path: str) -> str:
        """The topmost folder above a file that is ignored as a whole."""
        folders = [f"{folder}/" for folder in reversed(PurePosixPath(path).parents) if folder.parts]
        return next((folder for folder in folders if self._ignored.match_file(folder)), "")


def _spec(patterns: Sequence[str]) -> GitIgnoreSpec:
    return GitIgnoreSpec.from_lines(patterns)


def _is_a_name(pattern: str) -> bool:
    """A file's name, or what is more of one than its ending: `*_pb2.py`, but not `*.py`, nor `flows/**`."""
    last = pattern.strip().rstrip("/").rpartition("/")[2]
    stem = last.rpartition(".")[0] or last
    return not WILDCARD.search(pattern) or any(letter.isalnum() for letter in stem)


def _start(pattern: str) -> str:
    """The folder that a pattern begins with, with a slash, or all of a pattern without wildcards."""
    pattern = pattern.strip().lstrip("/")
    start = WILDCARD.split(pattern, maxsplit=1)[0]
    if start != pattern:
        start = start[: start.rfind("/") + 1]
    return start if not start or start.endswith("/") else f"{start}/"


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise KitaruUsageError(f"cannot read {file}: {error}", hint=f"correct or remove {file}") from error
