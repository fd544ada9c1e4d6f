"""`kitaru init`: a template becomes a project."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from kitaru_registry.errors import KitaruBackendError, KitaruConflictError, KitaruError, KitaruNotFoundError
from kitaru_registry.names import nearest

LEFT_OUT = frozenset({"__pycache__"})


def templates() -> list[str]:
    """The names that `init` knows, sorted."""
    return sorted(folder.name for folder in template_root().iterdir() if (folder / "kitaru.toml").is_file())


def init(folder: Path, *, template: str) -> list[str]:
    """The files that were written, relative to `folder`, which is created if it is not there.

    Raises:
        KitaruNotFoundError: no such template.
        KitaruConflictError: one of the files is there already; nothing was written.
        KitaruBackendError: they cannot be written there.
    """
    try:
        return write_template(template_root() / known(template), folder, template=template)
    except (OSError, ValueError) as error:
        if isinstance(error, KitaruError):
            raise
        said = getattr(error, "strerror", None) or error
        raise KitaruBackendError(f"{folder} cannot be written: {said}", hint="kitaru init FOLDER") from error


def write_template(source: Path, folder: Path, *, template: str) -> list[str]:
    files = {path: path.relative_to(source) for path in sorted(source.rglob("*")) if is_template_file(path)}
    taken = [str(target) for target in files.values() if (folder / target).exists()]
    if taken:
        raise KitaruConflictError(
            f"{folder} already has {', '.join(taken)}; nothing was written",
            hint=f"kitaru init NEW_FOLDER --template {template}",
        )
    write_all({folder / target: path.read_bytes() for path, target in files.items()})
    return [target.as_posix() for target in files.values()]


def template_root() -> Path:
    """The installed package `kitaru_templates`: found, not imported, because it is data."""
    spec = find_spec("kitaru_templates")
    if spec is None or not spec.submodule_search_locations:
        raise KitaruBackendError("the templates of Kitaru are not installed", hint="install its wheel again")
    return Path(spec.submodule_search_locations[0])


def known(template: str) -> str:
    names = templates()
    if template in names:
        return template
    near = nearest(template, names)
    meant = f" Did you mean {near}?" if near else ""
    raise KitaruNotFoundError(
        f"there is no template {template}; there are {', '.join(names)}.{meant}",
        hint=f"kitaru init --template {near or names[0]}",
    )


def is_template_file(path: Path) -> bool:
    return path.is_file() and not LEFT_OUT.intersection(path.parts)


def write_all(contents: dict[Path, bytes]) -> None:
    """Every file is there, or none of them."""
    written: list[Path] = []
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                written.append(path)
                file.write(content)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise KitaruBackendError(
            f"cannot write {path}: {error.strerror}; nothing was kept", hint="choose a folder that you own"
        ) from error
