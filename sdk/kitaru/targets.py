"""What `deploy` and `run` are told to take: a file and a flow in it, or a flow of kitaru.toml."""

from __future__ import annotations

import ast
import os
from dataclasses import dataclass
from pathlib import Path

from kitaru_registry.config import FlowConfig, ProjectConfig, load_project
from kitaru_registry.errors import KitaruDeployError, KitaruNotFoundError, KitaruUsageError
from kitaru_registry.names import nearest


@dataclass(frozen=True)
class Target:
    project: ProjectConfig
    file: str
    """Relative to the project's root, with forward slashes."""
    name: str
    """What the flow is called in its file."""
    config: FlowConfig
    declared: str | None
    """The name of the section of kitaru.toml that `config` is from, if it is from one."""

    @property
    def entrypoint(self) -> str:
        return f"{self.file}:{self.name}"

    @property
    def path(self) -> Path:
        return self.project.root / self.file


def find_target(target: str | None, *, cwd: Path) -> Target:
    """The flow that `target` names, seen from `cwd`.

    Args:
        target: `path.py:flow`, the name of a flow of kitaru.toml, or None for its only one.

    Raises:
        KitaruNotFoundError: no such file, or no such flow in kitaru.toml.
        KitaruUsageError: it names no flow, or more than one would fit.
    """
    if target is not None and (":" in target or target.endswith(".py")):
        return of_file(target, cwd)
    project = load_project(cwd)
    name = target if target is not None else only_flow(project)
    if name not in project.flows:
        raise undeclared(project, name)
    config = project.flows[name]
    if config.entrypoint is None:
        raise KitaruUsageError(
            f"{project.file} does not say where the flow {name} is",
            hint=f'[flows.{name}] entrypoint = "path.py:{name}", or kitaru deploy path.py:{name}',
        )
    file, _, attribute = config.entrypoint.rpartition(":")
    path = within(project.root, project.root / file)
    check_file(project.root / path, path)
    return Target(project, path, attribute, config, name)


def of_file(target: str, cwd: Path) -> Target:
    file, _, name = target.rpartition(":") if ":" in target else (target, "", "")
    path = Path(os.path.normpath(cwd.absolute() / file))
    if path.suffix != ".py":
        raise KitaruUsageError(f"{file or target} is no Python file", hint="a target is path.py:flow")
    check_file(path, file)
    if not name:
        raise KitaruUsageError(f"{file} is a file; which flow of it?", hint=suggestion(path, file))
    if not name.isidentifier():
        raise KitaruUsageError(f"{name!r} cannot be the name of a flow in {file}", hint=suggestion(path, file))
    project = load_project(path.parent)
    relative = within(project.root, path)
    declared, config = section_of(project, relative, name)
    return Target(project, relative, name, config, declared)


def section_of(project: ProjectConfig, file: str, name: str) -> tuple[str | None, FlowConfig]:
    for declared, config in project.flows.items():
        if config.entrypoint is not None and os.path.normpath(config.entrypoint) == f"{file}:{name}":
            return declared, config
    config = project.flows.get(name, FlowConfig())
    if config.entrypoint is not None:
        raise KitaruUsageError(
            f"{project.file} says that the flow {name} is {config.entrypoint}, and this is {file}:{name}",
            hint=f"correct the entrypoint there, or kitaru deploy {name}",
        )
    return (name if name in project.flows else None), config


def only_flow(project: ProjectConfig) -> str:
    if len(project.flows) == 1:
        return next(iter(project.flows))
    if project.flows:
        raise KitaruUsageError(f"which flow? {project.file} has {', '.join(project.flows)}", hint="name one of them")
    raise KitaruUsageError(
        f"which flow? there is no kitaru.toml with flows in {project.root}", hint="name it: path.py:flow"
    )


def undeclared(project: ProjectConfig, name: str) -> KitaruNotFoundError:
    if project.file is None:
        where = f"{name} names no file, and there is no kitaru.toml in {project.root} that could have a flow {name}"
    else:
        where = f"there is no flow {name} in {project.file}; it has {', '.join(project.flows) or 'none'}"
    near = nearest(name, project.flows)
    return KitaruNotFoundError(where, hint=f"did you mean {near}?" if near else "name the file too: path.py:flow")


def within(root: Path, path: Path) -> str:
    relative = os.path.relpath(path, root)
    if relative.startswith(".."):
        raise KitaruUsageError(f"{path} is outside of its project {root}", hint="move it there")
    return Path(relative).as_posix()


def check_file(path: Path, shown: str) -> None:
    if path.is_file():
        return
    if path.is_dir():
        raise KitaruUsageError(f"{shown} is a folder", hint="a target is path.py:flow")
    siblings = [sibling.name for sibling in path.parent.glob("*.py")] if path.parent.is_dir() else []
    near = nearest(path.name, siblings)
    where = "" if path.parent.is_dir() else f", nor its folder {path.parent}"
    raise KitaruNotFoundError(
        f"there is no file {shown}{where}",
        hint=f"did you mean {Path(shown).with_name(near)}?" if near else "a target is path.py:flow",
    )


def suggestion(path: Path, shown: str) -> str:
    found = flows_in(parse_source(path, shown))
    return f"it has {', '.join(f'{shown}:{name}' for name in found)}" if found else f"{shown}:NAME_OF_THE_FLOW"


def parse_source(path: Path, shown: str) -> ast.Module:
    """The file's syntax tree.

    Raises:
        KitaruDeployError: a syntax error; `detail` shows it as Python would.
    """
    import traceback

    try:
        return ast.parse(path.read_bytes(), filename=shown)
    except (SyntaxError, ValueError) as error:
        detail = "".join(traceback.format_exception_only(error)).rstrip()
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise KitaruDeployError(
            f"{shown} is not valid Python{line}", hint=f"correct it: python -m py_compile {shown}", detail=detail
        ) from error
    except OSError as error:
        raise KitaruDeployError(f"cannot read {shown}: {error.strerror}", hint="see who may read it") from error


def flows_in(tree: ast.Module) -> list[str]:
    """The names of the functions at the top that look decorated as flows."""
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(ast.unparse(decorator).partition("(")[0].split(".")[-1] == "flow" for decorator in node.decorator_list)
    ]
