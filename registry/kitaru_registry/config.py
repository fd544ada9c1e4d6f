"""`kitaru.toml`, where the project begins, and what the environment says otherwise."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.names import check_name, nearest

FILE_NAME = "kitaru.toml"
DEFAULT_PROJECT = "default"


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"{name!r} is no name of an environment variable")
    return name


def _entrypoint(text: str) -> str:
    file, colon, flow = text.rpartition(":")
    if not colon or not flow.isidentifier() or not file.endswith(".py") or Path(file).is_absolute():
        raise ValueError(f'{text!r} is not of the form "path/to/file.py:flow", relative to this file')
    return text


def _minor(text: str) -> str:
    if not re.fullmatch(r"3\.[0-9]{1,2}", text):
        raise ValueError(f'{text!r} is not a minor version of Python, such as "3.11"')
    return text


Variable = Annotated[str, AfterValidator(_variable)]


class Section(BaseModel):
    # Validators are built when first used, as those of the records are.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class FlowConfig(Section):
    """`[flows.NAME]`"""

    entrypoint: Annotated[str, AfterValidator(_entrypoint)] | None = Field(
        default=None, description="The file and the name in it, so that `kitaru deploy NAME` finds it: `path.py:name`."
    )
    include: tuple[str, ...] = Field(
        default=(), description="Only these files, in `.gitignore` syntax. Empty: all that git tracks or would."
    )
    exclude: tuple[str, ...] = Field(default=(), description="Never these files, in `.gitignore` syntax.")
    env: tuple[Variable, ...] = Field(
        default=(),
        description="Names of environment variables that executions of this flow may see, with the values that the "
        "runner has: those of whatever started it.",
    )
    python: Annotated[str, AfterValidator(_minor)] | None = Field(
        default=None, description="The minor version of Python to run on. Default: the one that deploys."
    )
    requirements: str | None = Field(
        default=None, description="A requirements file for this flow, instead of the project's dependency file."
    )


class DeployConfig(Section):
    """`[deploy]`"""

    env: tuple[Variable, ...] = Field(
        default=(), description="Names of environment variables that the code may see while `deploy` imports it."
    )


class RunnerConfig(Section):
    """`[runner]`"""

    autostart: bool = Field(default=True, description="Whether work that becomes pending starts the local runner.")
    max_executions: int = Field(default=8, ge=1, description="How many executions run at once.")
    idle_seconds: int = Field(default=60, ge=0, description="How long the runner stays without work.")
    lease_seconds: int = Field(
        default=30,
        ge=2,
        description="How long after its last heartbeat, one a second, a runner on another host may take an execution "
        "over. On the same host a file lock tells at once whether its processes live.",
    )


class JournalConfig(Section):
    """`[journal]`"""

    synchronous: Literal["FULL", "NORMAL"] = Field(
        default="FULL",
        description="`FULL`: a recorded checkpoint survives a power cut. `NORMAL`: it survives a killed process.",
    )


class KitaruToml(Section):
    """What `kitaru.toml` may say."""

    project: str = Field(
        default=DEFAULT_PROJECT, description="The namespace of the flows' names. `KITARU_PROJECT` wins over it."
    )
    flows: dict[str, FlowConfig] = Field(default={}, description="One section for each flow.")
    deploy: DeployConfig = Field(default=DeployConfig(), description="How code is imported at deploy.")
    runner: RunnerConfig = Field(default=RunnerConfig(), description="The local runner of a home.")
    journal: JournalConfig = Field(default=JournalConfig(), description="How durable a recorded checkpoint is.")


class ProjectConfig(KitaruToml):
    """A project's settings, and where they hold."""

    root: Path
    """The folder that file names in a snapshot are relative to; absolute."""
    file: Path | None
    """The `kitaru.toml` that was read, if there is one."""


def load_project(start: Path, *, environ: Mapping[str, str] = os.environ) -> ProjectConfig:
    """The settings that hold in `start`, a folder or a file.

    Raises:
        KitaruUsageError: the file is no TOML, has an unknown key, or a value that cannot be.
    """
    folder = start.absolute()
    folder = folder.parent if folder.is_file() else folder
    root = find_root(folder)
    file = root / FILE_NAME
    written = _read(file) if file.is_file() else KitaruToml()
    project = check_name("project", environ.get("KITARU_PROJECT") or written.project)
    for flow in written.flows:
        check_name("flow", flow)
    values = {name: getattr(written, name) for name in KitaruToml.model_fields}
    return ProjectConfig(**(values | {"project": project}), root=root, file=file if file.is_file() else None)


def find_root(folder: Path) -> Path:
    """The nearest folder at or above this one with a kitaru.toml; else, no further up than the git
    repository, with a pyproject.toml; else the git repository; else the folder itself."""
    upwards = (folder, *folder.parents)
    for candidate in upwards:
        if (candidate / FILE_NAME).is_file():
            return candidate
    repository = next((candidate for candidate in upwards if (candidate / ".git").exists()), None)
    for candidate in upwards:
        if (candidate / "pyproject.toml").is_file():
            return candidate
        if candidate == repository:
            return candidate
    return folder


def _read(file: Path) -> KitaruToml:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise KitaruUsageError(f"cannot read {file}: {error.strerror}", hint="see who may read it") from error
    except ValueError as error:
        raise KitaruUsageError(f"{file} is not valid TOML: {error}", hint=f"correct {file}") from error
    try:
        return KitaruToml.model_validate(_as_tuples(values))
    except ValidationError as error:
        problems = [_explain(problem["loc"], problem["type"], problem["msg"]) for problem in error.errors()]
        raise KitaruUsageError(f"{file}: " + "; ".join(problems), hint=f"correct {file}") from error


def _as_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_tuples(item) for key, item in value.items()}
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value


def _explain(where: tuple[int | str, ...], kind: str, message: str) -> str:
    path = ".".join(str(part) for part in where)
    if kind != "extra_forbidden":
        return f"{path}: {message.removeprefix('Value error, ')}"
    known = _known_keys(where[:-1])
    meant = nearest(str(where[-1]), known)
    return f"unknown key {path} (" + (f"did you mean {meant}?" if meant else f"known: {', '.join(known)}") + ")"


def _known_keys(section: tuple[int | str, ...]) -> list[str]:
    sections: dict[str, type[Section]] = {
        "flows": FlowConfig,
        "deploy": DeployConfig,
        "runner": RunnerConfig,
        "journal": JournalConfig,
    }
    model = sections[str(section[0])] if section else KitaruToml
    return list(model.model_fields)
