"""Where a project says what it needs: PEP 723 block, uv.lock, pylock.toml, requirements.txt, pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kitaru_registry.errors import KitaruDeployError, KitaruNotFoundError

Kind = Literal["script", "script-lock", "uv.lock", "pylock", "requirements", "pyproject", "none"]
READY: frozenset[Kind] = frozenset({"script-lock", "uv.lock", "pylock"})

# The regular expression of PEP 723, "Reference implementation".
SCRIPT_BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
REQUIREMENTS_INCLUDE = re.compile(r"(?m)^\s*(?:-r|-c|--requirement|--constraint)[ =]*([^\s#]+)")
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

    @property
    def ready(self) -> bool:
        """A lock of the project's own: its pins are not ours to change."""
        return self.kind in READY


def find_source(root: Path, *, entry: Path, requirements: str | None) -> Source:
    """The source of a flow's dependencies: the file that `kitaru.toml` names, else the first that is there.

    Raises:
        KitaruNotFoundError: the named file is not there.
        KitaruDeployError: a file is no TOML, or a URL in it carries credentials.
    """
    source = _named_source(root, requirements) if requirements is not None else _first_source(root, entry)
    for name, content in source.files:
        _refuse_credentials(name, content.decode(errors="replace"))
    return source


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
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise KitaruDeployError(f"{name} is not valid TOML: {error}", hint=f"correct {name}") from error


def _named_source(root: Path, requirements: str) -> Source:
    path = root / requirements
    if not path.is_file():
        raise KitaruNotFoundError(
            f"the requirements file {requirements} is not in {root}", hint="correct `requirements` in kitaru.toml"
        )
    if path.name == "uv.lock":
        return _uv_lock(path.parent)
    if path.name == "pyproject.toml":
        return _pyproject(path.parent) or _none(path.parent)
    if path.name.startswith("pylock") and path.suffix == ".toml":
        return _pylock(path)
    return _requirements(root, path)


def _first_source(root: Path, entry: Path) -> Source:
    block = script_block(entry)
    if block is not None:
        return _script(entry, block)
    if (root / "uv.lock").is_file():
        return _uv_lock(root)
    if (root / "pylock.toml").is_file():
        return _pylock(root / "pylock.toml")
    if (root / "requirements.txt").is_file():
        return _requirements(root, root / "requirements.txt")
    return _pyproject(root) or _none(root)


def _script(entry: Path, block: str) -> Source:
    label = f"the PEP 723 block of {entry.name}"
    lock = entry.with_name(f"{entry.name}.lock")
    files: tuple[tuple[str, bytes], ...] = ((label, block.encode()),)
    if lock.is_file():
        files += ((lock.name, lock.read_bytes()),)
    requires = parse_toml(label, block).get("requires-python")
    kind: Kind = "script-lock" if lock.is_file() else "script"
    return Source(kind, label, entry, files, requires_python=requires)


def _uv_lock(folder: Path) -> Source:
    if not (folder / "pyproject.toml").is_file():
        raise KitaruDeployError("uv.lock has no pyproject.toml beside it", hint="uv lock in the project's folder")
    files = tuple(_present(folder, "uv.lock", "pyproject.toml", "uv.toml"))
    requires = parse_toml("uv.lock", (folder / "uv.lock").read_text()).get("requires-python")
    return Source("uv.lock", "uv.lock", folder / "uv.lock", files, requires_python=requires)


def _pylock(path: Path) -> Source:
    requires = parse_toml(path.name, path.read_text()).get("requires-python")
    return Source("pylock", path.name, path, ((path.name, path.read_bytes()),), requires_python=requires)


def _requirements(root: Path, path: Path) -> Source:
    files = (*_with_includes(root, path, seen=set()), *_present(root, "pyproject.toml", "uv.toml"))
    return Source("requirements", path.name, path, files)


def _pyproject(folder: Path) -> Source | None:
    path = folder / "pyproject.toml"
    if not path.is_file():
        return None
    content = parse_toml("pyproject.toml", path.read_text())
    # Many a pyproject.toml holds only the settings of tools.
    if "project" not in content and "build-system" not in content:
        return None
    project = content.get("project", {})
    requires = project.get("requires-python")
    computed = "project" not in content or "dependencies" in project.get("dynamic", ())
    files = tuple(_present(folder, "pyproject.toml", "uv.toml"))
    return Source("pyproject", "pyproject.toml", path, files, requires_python=requires, computed=computed)


def _none(root: Path) -> Source:
    return Source("none", "no dependency file", None, tuple(_present(root, "pyproject.toml", "uv.toml")))


def _present(folder: Path, *names: str) -> Iterator[tuple[str, bytes]]:
    for name in names:
        if (folder / name).is_file():
            yield name, (folder / name).read_bytes()


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
