"""Where a project keeps its packages: which folders an import of its own code begins in.

What an installed project is found by is found without installing it: the folder that holds its packages comes onto
sys.path, whichever build backend says which that is. Standard library only, and tomllib only where a layout is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

WORDS_OF_LAYOUTS = ("package-dir", "where", "sources", "packages", "module-root", "python-source", "dev-mode-dirs")


def import_folders(root: Path, file: Path) -> list[Path]:
    """Folders for the front of sys.path: the file's; then of its project, and of the root, what holds packages."""
    project = project_of(root, file)
    folders = [file.parent]
    for place in dict.fromkeys((project, root)):
        folders += [*declared_folders(place), place / "src", place]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def package_folders(root: Path, file: Path) -> list[Path]:
    """Where a module's dotted name may begin: the first of these folders that holds the file."""
    project = project_of(root, file)
    own = [] if project == root else [*declared_folders(project), project / "src"]
    return [*own, *declared_folders(root), root / "src", root]


def project_of(root: Path, file: Path) -> Path:
    """The nearest folder at or above the file, and below the root, that has a pyproject.toml; else the root."""
    for folder in file.parents:
        if folder == root or not folder.is_relative_to(root):
            break
        if (folder / "pyproject.toml").is_file():
            return folder
    return root


def declared_folders(project: Path) -> list[Path]:
    """What `pyproject.toml` says holds the packages, other than `src/` and the folder itself."""
    try:
        text = (project / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    if not any(word in text for word in WORDS_OF_LAYOUTS):
        return []
    from kitaru_registry import toml_text

    try:
        content = toml_text.parse(text)
    except ValueError:
        return []
    # A flow in Kitaru's own repository runs on the Kitaru of its snapshot.
    tool = {} if _at(content, "project", "name") == "kitaru" else _table(content.get("tool"))
    found = (PurePosixPath(place) for place in _declared(tool) if isinstance(place, str))
    inside = (place for place in found if place.parts and not place.is_absolute() and ".." not in place.parts)
    return list(dict.fromkeys(project / place for place in inside if place.parts != ("src",)))


def _declared(tool: dict[str, Any]) -> Iterator[Any]:
    setuptools = tool.get("setuptools", {})
    for package, folder in _table(setuptools.get("package-dir")).items():
        yield folder if package == "" else _above(folder, str(package).count(".") + 1)
    yield from _list(_at(setuptools, "packages", "find", "where"))
    for build in (_at(tool, "hatch", "build"), _at(tool, "hatch", "build", "targets", "wheel")):
        # hatch: a package goes in under its last part, and what `sources` names is cut off.
        yield from (_above(package, 1) for package in _list(_at(build, "packages")))
        sources = _at(build, "sources")
        yield from (cut for cut, put in _table(sources).items() if put == "")
        yield from _list(sources)
        yield from _list(_at(build, "dev-mode-dirs"))
    yield from (package.get("from") for package in _list(_at(tool, "poetry", "packages")) if isinstance(package, dict))
    yield _at(tool, "pdm", "build", "package-dir")
    yield _at(tool, "uv", "build-backend", "module-root")
    yield _at(tool, "maturin", "python-source")
    yield from (_above(package, 1) for package in _list(_at(tool, "scikit-build", "wheel", "packages")))


def _at(table: Any, *keys: str) -> Any:
    for key in keys:
        table = _table(table).get(key)
    return table


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _above(folder: Any, levels: int) -> str:
    return str(PurePosixPath(*PurePosixPath(str(folder)).parts[:-levels]))
