"""How a file becomes a module: the same for deploy, run, resume and child.

sys.path begins with the file's folder, `src/` and the root, and what the project's pyproject.toml says holds its
packages. The module's name is its dotted path from the first of these, the file's folder apart, that holds it. While
the entry module is imported, `.run()` and its kin start nothing: they give an inert handle, and asking that for a
result ends the import there, with what is defined so far. So a file whose last line is an unguarded
`my_flow.run(...).wait()` can be deployed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from kitaru_registry.errors import KitaruError, KitaruNotFoundError, KitaruUsageError
from kitaru_runner.child.layouts import import_folders, package_folders


class ImportEnded(BaseException):
    """Ends the import of an entry module at the line that asks for a result."""


class InertHandle:
    """What `.run()`, `.invoke()` and `.deploy()` give while their module is loaded: nothing was started."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ImportEnded(name)


_loading: list[Path] = []


def is_loading() -> bool:
    return bool(_loading)


def split_target(target: str) -> tuple[str, str]:
    """File and flow of `path.py:flow`.

    Raises:
        KitaruUsageError: it has another form.
    """
    file, colon, name = target.rpartition(":")
    if not colon or not file or not name.isidentifier():
        raise KitaruUsageError(
            f"{target!r} does not say which flow of which file", hint="write path/to/file.py:flow_name"
        )
    return file, name


def module_name(root: Path, file: Path) -> str:
    """The dotted name of a file, from the first folder of packages that holds it: `src/`, root."""
    for base in package_folders(root, file):
        if file.is_relative_to(base):
            parts = file.relative_to(base).with_suffix("").parts
            return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
    return file.stem


def extend_path(root: Path, file: Path) -> None:
    """Put the file's folder and those of the project's packages first on sys.path."""
    wanted = [str(folder) for folder in import_folders(root, file)]
    sys.path[:] = wanted + [entry for entry in sys.path if entry not in wanted]


def load_module(root: Path, file: Path) -> ModuleType:
    """The file's module, imported afresh under its dotted name.

    Raises:
        KitaruNotFoundError: there is no such file.
        Exception: whatever the module raises.
    """
    if not file.is_file():
        near = (
            get_close_matches(file.name, [p.name for p in file.parent.glob("*.py")], n=1)
            if file.parent.is_dir()
            else []
        )
        hint = f"did you mean {file.with_name(near[0])}?" if near else None
        raise KitaruNotFoundError(f"there is no file {file}", hint=hint)
    extend_path(root, file)
    name = module_name(root, file)
    parent = name.rpartition(".")[0]
    if parent:
        importlib.import_module(parent)
    return import_file(name, file)


def import_file(name: str, file: Path) -> ModuleType:
    """The file as the module of that name, imported afresh.

    Raises:
        KitaruUsageError: it is not a Python file.
        Exception: whatever the module raises; a KitaruError says where.
    """
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise KitaruUsageError(f"{file} is not a Python file", hint="write path/to/file.py:flow_name")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with loading(file):
            spec.loader.exec_module(module)
    except ImportEnded:
        pass
    except BaseException as error:
        sys.modules.pop(name, None)
        if isinstance(error, KitaruError):
            say_where(error)
        raise
    return module


def say_where(error: KitaruError) -> None:
    """Put file and line before the message of what a decorator refused, which is shown without a traceback."""
    from kitaru_runner.values.failures import user_frames

    frames = user_frames(error)
    if frames:
        error.message = f"{frames[-1].filename}:{frames[-1].lineno}: {error.message}"
        error.args = (error.message,)


@contextmanager
def loading(file: Path) -> Iterator[None]:
    _loading.append(file)
    try:
        yield
    finally:
        _loading.pop()


def find_flow(module: ModuleType, name: str, *, file: str) -> Any:
    """The flow of that name.

    Raises:
        KitaruNotFoundError: there is none; the flows that there are, are named.
        KitaruUsageError: the object is not a flow.
    """
    flows = sorted(key for key, value in vars(module).items() if is_flow(value))
    listed = f"its flows: {', '.join(flows)}" if flows else "it defines no flow"
    found = vars(module).get(name)
    if found is None:
        near = get_close_matches(name, flows, n=1)
        hint = f"did you mean {file}:{near[0]}?" if near else f"write {file}:{flows[0] if flows else 'FLOW'}"
        raise KitaruNotFoundError(f"{file} has no flow {name}; {listed}", hint=hint)
    if not is_flow(found):
        raise KitaruUsageError(
            f"{name} in {file} is a {type(found).__name__}, not a flow; {listed}",
            hint=f"decorate it: @flow above def {name}",
        )
    return found


def is_flow(value: object) -> bool:
    return type(value).__name__ == "Flow" and type(value).__module__ == "kitaru.flows"


def name_main_module(root: Path, file: Path) -> None:
    """Let the running script be found under the name that a deploy would give it."""
    main = sys.modules["__main__"]
    if getattr(main, "__file__", None) is None or Path(str(main.__file__)).resolve() != file.resolve():
        return
    name = module_name(root, file)
    main.__dict__["__kitaru_name__"] = name
    sys.modules.setdefault(name, main)
