"""`kitaru.toml`, where the project begins, and what the environment says otherwise."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from kitaru_registry import toml_text
from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.home import Home
from kitaru_registry.names import check_name, nearest
from kitaru_registry.record_url import check_setting

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


def _span(text: str) -> str:
    span_seconds(text)
    return text


def span_seconds(text: str) -> int:
    """Seconds of `90d`, `12h`, `30m`, `2w`."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhdw])", text)
    if found is None:
        raise ValueError(f'{text!r} is no span of time, such as "90d"')
    return int(found[1]) * {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}[found[2]]


Variable = Annotated[str, AfterValidator(_variable)]
Span = Annotated[str, AfterValidator(_span)]


class Section(BaseModel):
    # Validators are built when first used, as those of the records are.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class FlowConfig(Section):
    """`[flows.NAME]`"""

    entrypoint: Annotated[str, AfterValidator(_entrypoint)] | None = Field(
        default=None, description="The file and the name in it, so that `kitaru deploy NAME` finds it: `path.py:name`."
    )
    include: tuple[str, ...] = Field(
        default=(),
        description="Only these files, in `.gitignore` syntax. Empty: all that git tracks or would. A file that git "
        'ignores is taken in if a pattern names it: `["*", "src/app/_version.py"]`, `["*", "*_pb2.py"]`.',
    )
    exclude: tuple[str, ...] = Field(default=(), description="Never these files, in `.gitignore` syntax.")
    env: tuple[Variable, ...] = Field(
        default=(),
        description="Names of environment variables that executions of this flow may see, with the values of the "
        "command that makes or resumes them, which it hands to the runner; else the runner's own.",
    )
    python: Annotated[str, AfterValidator(_minor)] | None = Field(
        default=None, description="The minor version of Python to run on. Default: the one that deploys."
    )
    requirements: str | None = Field(
        default=None,
        description="A requirements file, lock or pyproject.toml for this flow, instead of the project's "
        "[dependency file](dependencies.md).",
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
    divergence: Literal["warn", "strict"] = Field(
        default="warn",
        description="What a resumed execution does where a call has other arguments than the journal holds: go on with "
        "the recorded outcome and a warning, or fail as where it makes another call. Goes with what is deployed.",
    )


class ValuesConfig(Section):
    """`[values]`"""

    pickle: Literal["allow", "forbid"] = Field(
        default="allow",
        description="`forbid`: a value that no other codec carries is an error, where it is returned, saved or passed "
        "in; it goes with the snapshots that are deployed. `KITARU_PICKLE` wins over it.",
    )


class RegistryConfig(Section):
    """`[registry]`"""

    database: Annotated[str, AfterValidator(check_setting)] | None = Field(
        default=None,
        description="The PostgreSQL database that the record is in, for a team: `env:NAME` or `file:PATH`, which hold "
        "its URL, or a URL without a user. Default: a file of the home's own.",
    )
    store: str | None = Field(
        default=None,
        description="The folder that holds the snapshots, which all machines of a team mount. Relative to this file. "
        "Default: the home's own.",
    )


class RetentionConfig(Section):
    """`[retention]`"""

    executions: Span | None = Field(
        default=None,
        description="How long the values of an ended execution are kept, as a number and `d`, `h`, `m` or `w`: "
        '`"90d"`. Then its record is deleted but for a tombstone. Default: for ever.',
    )


class KitaruToml(Section):
    """What `kitaru.toml` may say."""

    # The defaults are not validated: that would build validators, which a command may not need.
    project: str = Field(
        default=DEFAULT_PROJECT, description="The namespace of the flows' names. `KITARU_PROJECT` wins over it."
    )
    flows: dict[str, FlowConfig] = Field(default={}, description="One section for each flow.")
    deploy: DeployConfig = Field(
        default_factory=DeployConfig.model_construct, description="How code is imported at deploy."
    )
    runner: RunnerConfig = Field(
        default_factory=RunnerConfig.model_construct, description="The local runner of a home."
    )
    journal: JournalConfig = Field(
        default_factory=JournalConfig.model_construct, description="What is recorded, and how it is kept to."
    )
    values: ValuesConfig = Field(default_factory=ValuesConfig.model_construct, description="How values are stored.")
    registry: RegistryConfig = Field(
        default_factory=RegistryConfig.model_construct, description="Where versions and executions are recorded."
    )
    retention: RetentionConfig = Field(
        default_factory=RetentionConfig.model_construct, description="What is deleted by itself, and when."
    )


SECTIONS: Mapping[str, type[Section]] = {
    "flows": FlowConfig,
    "deploy": DeployConfig,
    "runner": RunnerConfig,
    "journal": JournalConfig,
    "values": ValuesConfig,
    "registry": RegistryConfig,
    "retention": RetentionConfig,
}


class ProjectConfig(KitaruToml):
    """A project's settings, and where they hold."""

    root: Path
    """The folder that file names in a snapshot are relative to; absolute."""
    file: Path | None
    """The `kitaru.toml` that was read, if there is one."""

    def placed(self, home: Home) -> Home:
        """The home, with the record and the store that the project has."""
        said, store = self.registry.database, self.registry.store
        if said is not None and said.startswith("file:"):
            said = f"file:{self.root / Path(said.removeprefix('file:')).expanduser()}"
        folder = self.root / Path(store).expanduser() if store is not None else None
        return replace(home, record=said, store=folder) if said or folder else home


def load_project(start: Path, *, environ: Mapping[str, str] = os.environ) -> ProjectConfig:
    """The settings that hold in `start`, a folder or a file.

    Raises:
        KitaruUsageError: the file is no TOML, has an unknown key, or a value that cannot be.
    """
    folder = start.absolute()
    folder = folder.parent if folder.is_file() else folder
    root = find_root(folder)
    file = root / FILE_NAME
    written = _read(file) if file.is_file() else KitaruToml.model_construct()
    project = check_name("project", environ.get("KITARU_PROJECT") or written.project)
    for flow in written.flows:
        check_name("flow", flow)
    values = {name: getattr(written, name) for name in KitaruToml.model_fields}
    values["values"] = values_from(environ, written.values)
    return ProjectConfig.model_construct(
        **(values | {"project": project}), root=root, file=file if file.is_file() else None
    )


def values_from(environ: Mapping[str, str], written: ValuesConfig) -> ValuesConfig:
    match environ.get("KITARU_PICKLE", ""):
        case "":
            return written
        case "allow":
            return ValuesConfig(pickle="allow")
        case "forbid":
            return ValuesConfig(pickle="forbid")
        case other:
            raise KitaruUsageError(f"KITARU_PICKLE is {other!r}", hint="set it to allow or forbid, or to nothing")


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
        values = toml_text.parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise KitaruUsageError(f"cannot read {file}: {error.strerror}", hint="see who may read it") from error
    except ValueError as error:
        raise KitaruUsageError(f"{file} is not valid TOML: {error}", hint=f"correct {file}") from error
    try:
        return _checked(_as_tuples(values))
    except ValidationError as error:
        problems = [_explain(problem["loc"], problem["type"], problem["msg"]) for problem in error.errors()]
        raise KitaruUsageError(f"{file}: " + "; ".join(problems), hint=f"correct {file}") from error


def _checked(values: dict[str, Any]) -> KitaruToml:
    """What a file says: by the validators of those sections that it has, as the validator of all takes 25 ms to build.

    Raises:
        ValidationError: of everything that is wrong.
    """
    try:
        return KitaruToml.model_construct(**{name: _checked_part(name, value) for name, value in values.items()})
    except (KeyError, AttributeError, ValidationError):
        # The whole says all that is wrong, and where.
        return KitaruToml.model_validate(values)


def _checked_part(name: str, value: Any) -> Any:
    if name == "project" and isinstance(value, str):
        return value
    if name == "flows":
        return {flow: FlowConfig.model_validate(section) for flow, section in value.items()}
    return SECTIONS[name].model_validate(value)


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
    model = SECTIONS[str(section[0])] if section else KitaruToml
    return list(model.model_fields)
