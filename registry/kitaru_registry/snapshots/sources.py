"""Where a project says what it needs: PEP 723 block, uv.lock, pylock.toml, requirements.txt, pyproject.toml."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kitaru_registry import toml_text
from kitaru_registry.errors import KitaruDeployError, KitaruNotFoundError
from kitaru_registry.snapshots.workspaces import LOCK, nearest_project, workspace_of

Kind = Literal["script", "script-lock", "uv.lock", "pylock", "requirements", "pyproject", "none"]
READY: frozenset[Kind] = frozenset({"script-lock", "uv.lock", "pylock"})

# The regular expression of PEP 723, "Reference implementation".
SCRIPT_BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
REQUIREMENTS_INCLUDE = re.compile(r"(?m)^\s*(?:-r|-c|--requirement|--constraint)[ =]*([^\s#]+)")
LOCKED_PYTHON = re.compile(r'(?m)^requires-python = "([^"]*)"')
USERINFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<userinfo>[^/\s@'\"]+)@(?P<host>[^/\s'\"]+)", re.IGNORECASE)
VARIABLES_ONLY = re.compile(r"(\$\{\w+\}|:)*")


@dataclass(frozen=True)
class Source:
    """What says which packages a flow needs."""

    kind: Kind
    label: str
    """How messages name it: `requirements.txt`, `the PEP 723 block of flow.py`."""
    path: Path | None
    files: tuple[tuple[str, bytes], ...]
    """Every file that takes part, relative to the root, with its content; it determines the resolution."""
    requires_python: str | None = None
    computed: bool = False
    """Whether the project's build says what it needs, from files that nobody names."""
    project: Path | None = None
    """The folder of the project whose code the snapshot holds."""
    name: str = ""
    """That project's, as it is written; empty if it has none."""

    @property
    def ready(self) -> bool:
        """A lock of the project's own: its pins are not ours to change."""
        return self.kind in READY


def find_source(root: Path, *, entry: Path, requirements: str | None) -> Source:
    """The source of a flow's dependencies: the file that `kitaru.toml` names, else the first that is there.

    Args:
        entry: the flow's file.
        requirements: what `kitaru.toml` names, relative to the root.

    Raises:
        KitaruNotFoundError: the named file is not there.
        KitaruDeployError: a file is no TOML, or a URL in it carries credentials.
    """
    project = project_folder(root, entry=entry, requirements=requirements)
    named = requirements is not None
    source = _named_source(root, str(requirements), project) if named else _first_source(root, entry, project)
    for name, content in source.files:
        _refuse_credentials(name, content.decode(errors="replace"))
    return source


def project_folder(root: Path, *, entry: Path, requirements: str | None) -> Path:
    """The folder of the project whose code a flow's snapshot holds, and which is therefore never a wheel.

    It is the root, but where the flow's file, or what `requirements` names, belongs to a member of a workspace, or to
    a project below a root that names no dependencies itself.
    """
    named = root / (requirements or "")
    if named.name == "pyproject.toml" and named.is_file():
        return Path(os.path.normpath(named.parent))
    nearest = nearest_project(root, entry)
    if nearest == root or (requirements is not None and named.name != LOCK):
        return root
    top = root if requirements is None else Path(os.path.normpath(named.parent))
    if workspace_of(nearest) == top or nearest == top:
        return nearest
    return nearest if requirements is None and not _names_dependencies(root) else root


def _names_dependencies(root: Path) -> bool:
    names = (LOCK, "pylock.toml", "requirements.txt")
    return any((root / name).is_file() for name in names) or _pyproject(root, root) is not None


def builds_anyhow(source: Source) -> Callable[[str], bool]:
    """Whether uv's settings say that a package, by its normal name, is built although its lock has wheels."""
    packages = set(os.environ.get("UV_NO_BINARY_PACKAGE", "").split())
    for name, content in source.files:
        if not name.endswith(("pyproject.toml", "uv.toml")):
            continue
        table = parse_toml(name, content.decode(errors="replace"))
        settings = table if name.endswith("uv.toml") else table.get("tool", {}).get("uv", {})
        packages.update(map(str, settings.get("no-binary-package", ())))
    normal = {re.sub(r"[-_.]+", "-", package).lower() for package in packages}
    return normal.__contains__


def script_block(entry: Path) -> str | None:
    """The TOML of a file's PEP 723 block."""
    if not entry.is_file():
        return None
    matches = list(SCRIPT_BLOCK.finditer(entry.read_text(encoding="utf-8", errors="replace")))
    if not matches:
        return None
    if len(matches) > 1:
        raise KitaruDeployError(f"{entry.name} has more than one PEP 723 `script` block", hint="keep one of them")
    lines = matches[0].group("content").splitlines()
    return "".join(f"{line[2:] if line.startswith('# ') else line[1:]}\n" for line in lines)


def parse_toml(name: str, text: str) -> dict[str, Any]:
    try:
        return toml_text.parse(text)
    except tomllib.TOMLDecodeError as error:
        raise KitaruDeployError(f"{name} is not valid TOML: {error}", hint=f"correct {name}") from error


def _named_source(root: Path, requirements: str, project: Path) -> Source:
    path = Path(os.path.normpath(root / requirements))
    if not path.is_file():
        raise KitaruNotFoundError(
            f"the requirements file {requirements} is not in {root}", hint="correct `requirements` in kitaru.toml"
        )
    if path.name == LOCK:
        return _uv_lock(root, path.parent, project if workspace_of(project) == path.parent else path.parent)
    if path.name == "pyproject.toml":
        return _locked_by_uv(root, project) or _pyproject(root, path.parent) or _none(root, path.parent)
    if path.name.startswith("pylock") and path.suffix == ".toml":
        return _pylock(path)
    return _requirements(root, path)


def _first_source(root: Path, entry: Path, project: Path) -> Source:
    block = script_block(entry)
    if block is not None:
        return _script(entry, block)
    locked = _locked_by_uv(root, project)
    if locked is not None:
        return locked
    if (project / "pylock.toml").is_file():
        return _pylock(project / "pylock.toml")
    if (project / "requirements.txt").is_file():
        return _requirements(project, project / "requirements.txt")
    return _pyproject(root, project) or _none(root, project)


def _locked_by_uv(root: Path, project: Path) -> Source | None:
    """The `uv.lock` beside a project, or of the workspace that it is a member of."""
    folder = project if (project / LOCK).is_file() else workspace_of(project)
    return _uv_lock(root, folder, project) if folder is not None else None


def _script(entry: Path, block: str) -> Source:
    label = f"the PEP 723 block of {entry.name}"
    lock = entry.with_name(f"{entry.name}.lock")
    files: tuple[tuple[str, bytes], ...] = ((label, block.encode()),)
    if lock.is_file():
        files += ((lock.name, lock.read_bytes()),)
    requires = parse_toml(label, block).get("requires-python")
    kind: Kind = "script-lock" if lock.is_file() else "script"
    return Source(kind, label, entry, files, requires_python=requires)


def _uv_lock(root: Path, folder: Path, project: Path) -> Source:
    """The lock in `folder`, as far as `project` needs it: the same, or a member of its workspace."""
    if not (folder / "pyproject.toml").is_file():
        raise KitaruDeployError("uv.lock has no pyproject.toml beside it", hint="uv lock in the project's folder")
    files = dict(_present(root, project, "pyproject.toml"))
    files |= dict(_present(root, folder, LOCK, "pyproject.toml", "uv.toml"))
    found = LOCKED_PYTHON.search((folder / LOCK).read_text(encoding="utf-8", errors="replace"))
    return Source(
        "uv.lock",
        _shown(root, folder / LOCK),
        folder / LOCK,
        tuple(files.items()),
        requires_python=found[1] if found else None,
        project=project,
        name=_project_name(project),
    )


def _pylock(path: Path) -> Source:
    requires = parse_toml(path.name, path.read_text()).get("requires-python")
    return Source("pylock", path.name, path, ((path.name, path.read_bytes()),), requires_python=requires)


def _requirements(root: Path, path: Path) -> Source:
    files = (*_with_includes(root, path, seen=set()), *_present(root, root, "pyproject.toml", "uv.toml"))
    return Source("requirements", path.name, path, files, project=root, name=_project_name(root))


def _pyproject(root: Path, folder: Path) -> Source | None:
    path = folder / "pyproject.toml"
    if not path.is_file():
        return None
    content = parse_toml("pyproject.toml", path.read_text())
    # Many a pyproject.toml holds only the settings of tools.
    if "project" not in content and "build-system" not in content:
        return None
    project = content.get("project", {})
    return Source(
        "pyproject",
        _shown(root, path),
        path,
        tuple(_present(root, folder, "pyproject.toml", "uv.toml")),
        requires_python=project.get("requires-python"),
        computed="project" not in content or "dependencies" in project.get("dynamic", ()),
        project=folder,
        name=str(project.get("name", "")),
    )


def _none(root: Path, folder: Path) -> Source:
    files = tuple(_present(root, folder, "pyproject.toml", "uv.toml"))
    return Source("none", "no dependency file", None, files, project=folder)


def _project_name(folder: Path) -> str:
    path = folder / "pyproject.toml"
    project = parse_toml("pyproject.toml", path.read_text()).get("project", {}) if path.is_file() else {}
    return str(project.get("name", ""))


def _shown(root: Path, path: Path) -> str:
    """How messages name a file: as somebody in the root would write it."""
    return Path(os.path.relpath(path, root)).as_posix()


def _present(root: Path, folder: Path, *names: str) -> Iterator[tuple[str, bytes]]:
    for name in names:
        if (folder / name).is_file():
            yield _shown(root, folder / name), (folder / name).read_bytes()


def _with_includes(root: Path, path: Path, *, seen: set[Path]) -> Iterator[tuple[str, bytes]]:
    if path.resolve() in seen or not path.is_file():
        return
    seen.add(path.resolve())
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    yield name, path.read_bytes()
    for included in REQUIREMENTS_INCLUDE.findall(path.read_text(errors="replace")):
        yield from _with_includes(root, path.parent / included, seen=seen)


def _refuse_credentials(name: str, text: str) -> None:
    for match in USERINFO.finditer(text):
        userinfo = match["userinfo"]
        login_of_ssh = match["scheme"].endswith("ssh") and ":" not in userinfo
        if not login_of_ssh and not VARIABLES_ONLY.fullmatch(userinfo):
            raise KitaruDeployError(
                f"{name} has a URL with credentials for {match['host']}",
                hint="put the login into ~/.netrc, which uv and pip read",
            )
