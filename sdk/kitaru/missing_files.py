"""Why a file that is in the project is not in the snapshot, and how it gets there."""

from __future__ import annotations

from collections.abc import Iterator

from kitaru.targets import Target
from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.snapshots.choice import Choice
from kitaru_registry.snapshots.files import Collection
from kitaru_runner.child.layouts import import_folders


def hint_for_module(module: str, target: Target, collection: Collection, *, has_git: bool) -> str | None:
    """What to do about a module that the packed code did not find; None where the project has none of that name."""
    root = target.project.root
    for folder in import_folders(root, target.path):
        for path in module_files(module):
            place = folder / path
            relative = place.relative_to(root).as_posix()
            if place.is_file() and relative not in collection.places:
                return f"{relative} is there, but {left_out(relative, target, has_git=has_git)}"
        package = folder / module.replace(".", "/")
        for place in sorted(package.rglob("*.py")):
            if place.relative_to(root).as_posix() not in collection.places:
                relative = package.relative_to(root).as_posix() + "/"
                return f"{relative} is there, but {left_out(relative, target, has_git=has_git)}"
    return elsewhere(module, collection)


def check_collected(target: Target, collection: Collection, *, has_git: bool) -> None:
    """Raise unless the flow's own file is in the snapshot.

    Raises:
        KitaruUsageError: it is not; why, and what to do.
    """
    if target.file not in collection.places:
        raise KitaruUsageError(
            f"{target.file} is not among the files of the snapshot",
            hint=f"it is there, but {left_out(target.file, target, has_git=has_git)}",
        )


def left_out(path: str, target: Target, *, has_git: bool) -> str:
    """Why a file is not collected, and the way in: `git ignores it: ...`."""
    config = target.config
    reason = Choice(target.project.root, config.include, config.exclude, has_git=has_git).reason(path)
    section = f"[flows.{target.declared or target.name}]"
    match reason:
        case "git ignores it":
            wanted = ", ".join(f'"{pattern}"' for pattern in (*(config.include or ("*",)), path))
            return f"{reason}: in kitaru.toml, {section} include = [{wanted}]"
        case "`include` leaves it out":
            return f'{reason}: add "{path}" to it, in kitaru.toml, {section}'
        case "`exclude` leaves it out":
            return f"{reason}: see kitaru.toml, {section}"
    return f"{reason}: take it back in, in .kitaruignore: !{path}"


def elsewhere(module: str, collection: Collection) -> str | None:
    for path in module_files(module):
        for known in sorted(collection.places):
            folder = known.removesuffix(f"/{path}")
            if folder != known:
                unread = "" if "pyproject.toml" in collection.places else ", and let `include` take in pyproject.toml"
                setting = f'[tool.setuptools] package-dir = {{ "" = "{folder}" }}'
                return (
                    f"{known} is there, but {folder}/ is not where imports begin: say in pyproject.toml that it holds "
                    f"the packages, as for setuptools: {setting}{unread}"
                )
    return None


def module_files(module: str) -> Iterator[str]:
    """Where a module may be, below a folder of sys.path."""
    path = module.replace(".", "/")
    yield from (f"{path}.py", f"{path}/__init__.py")
