"""uv's workspaces: several projects below one folder, which has the one `uv.lock` of them all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kitaru_registry import toml_text

LOCK = "uv.lock"


def workspace_of(project: Path) -> Path | None:
    """The folder with the lock of the workspace that `project` is a member of; None for its root, and for others.

    uv documentation, "Workspaces": the patterns of `members`, less those of `exclude`.
    """
    for folder in project.parents:
        settings = _settings(folder / "pyproject.toml")
        if settings is None:
            continue
        path = project.relative_to(folder).parts
        member = _matches(path, settings.get("members", ())) and not _matches(path, settings.get("exclude", ()))
        return folder if member and (folder / LOCK).is_file() else None
    return None


def nearest_project(root: Path, entry: Path) -> Path:
    """The nearest folder with a `pyproject.toml` at or above a file and below the root; else the root."""
    inside = (folder for folder in entry.parents if folder.is_relative_to(root))
    return next((folder for folder in inside if (folder / "pyproject.toml").is_file()), root)


def _settings(pyproject: Path) -> dict[str, Any] | None:
    """What `[tool.uv.workspace]` says, if the file has it."""
    try:
        text = pyproject.read_bytes()
        # Most of what lies above a project is none, or has no such table.
        found = toml_text.parse(text.decode())["tool"]["uv"]["workspace"] if b"workspace" in text else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def _matches(path: Sequence[str], patterns: Iterable[object]) -> bool:
    return any(_match(path, Path(str(pattern)).parts) for pattern in patterns)


def _match(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path fit a pattern, in which `**` stands for any number of them."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_match(path[skipped:], pattern[1:]) for skipped in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _match(path[1:], pattern[1:])
