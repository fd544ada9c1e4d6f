"""`KitaruClient`: what can be asked of a home, from any program."""

from __future__ import annotations

import getpass
import importlib.util
import os
import socket
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from kitaru.databases import shared
from kitaru.door import check_path, checked, checked_methods
from kitaru_registry.errors import KitaruContextError
from kitaru_registry.home import Home, default_home

# A deployed flow's file may import this too: what its lean environment lacks is imported at need.
if TYPE_CHECKING:
    from kitaru.artifact_client import Artifacts
    from kitaru.databases import Opened, Use
    from kitaru.deployments import Deployments, Tags
    from kitaru.executions import Executions, Waits
    from kitaru.runners import Runners
    from kitaru_registry.config import ProjectConfig
    from kitaru_registry.database.opening import Database
    from kitaru_registry.executions.journal import JournalWriter
    from kitaru_registry.models import Deleted, DoctorCheck, Execution, ExecutionId, HomeStatus
    from kitaru_registry.stores.layout import OciLayout

CHILD_MODULES = frozenset({"kitaru_runner.child", "kitaru_runner.describing"})
"""What the process of a deployed flow is started as, and the one that imports it for a deploy."""


@checked_methods
class KitaruClient:
    """A home and a project. What it opened is closed when it goes, or at the end of a `with` block.

    Args:
        home: by default what `KITARU_HOME` names, else `~/.kitaru`.
        project: by default what `KITARU_PROJECT` or the nearest kitaru.toml says.
        cwd: where kitaru.toml is looked for; by default the present folder.
    """

    @checked
    def __init__(self, home: Home | Path | None = None, project: str | None = None, *, cwd: Path | None = None) -> None:
        require_registry()
        self.home = Home(home) if isinstance(home, Path) else home or default_home()
        check_path("the home", self.home.root)
        self.cwd = cwd or Path.cwd()
        self._project = project
        self._use: Use | None = None

    @cached_property
    def config(self) -> ProjectConfig:
        from kitaru_registry.config import load_project

        return load_project(self.cwd)

    @property
    def project(self) -> str:
        return self._project or self.config.project

    @cached_property
    def actor(self) -> str:
        """Who does what this client does: `KITARU_ACTOR`, else user@host."""
        return os.environ.get("KITARU_ACTOR") or f"{user_name()}@{socket.gethostname()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database, unless another client of this process uses it. The client can be used again."""
        if self._use is not None:
            self._use.end()
            self._use = None
            shared.close_unused()

    @property
    def database(self) -> Database:
        """
        Raises:
            KitaruContextError: in the process of a deployed flow, which opens no database.
        """
        return self._opened.database

    @property
    def writer(self) -> JournalWriter:
        """Over which this process records what it executes itself."""
        return self._opened.writer

    @property
    def _opened(self) -> Opened:
        if self._use is None or self._use.opened.is_closed:
            self._use = shared.take(self, self.home, self.config.journal.synchronous)
        return self._use.opened

    @cached_property
    def layout(self) -> OciLayout:
        from kitaru_registry.stores.layout import OciLayout

        return OciLayout(self.home.layout)

    @cached_property
    def deployments(self) -> Deployments:
        from kitaru.deployments import Deployments

        return Deployments(self)

    @cached_property
    def tags(self) -> Tags:
        from kitaru.deployments import Tags

        return Tags(self)

    @cached_property
    def executions(self) -> Executions:
        from kitaru.executions import Executions

        return Executions(self)

    @cached_property
    def artifacts(self) -> Artifacts:
        from kitaru.artifact_client import Artifacts

        return Artifacts(self)

    @cached_property
    def waits(self) -> Waits:
        from kitaru.executions import Waits

        return Waits(self)

    @cached_property
    def runner(self) -> Runners:
        from kitaru.runners import Runners

        return Runners(self)

    def load(self, exec_id: str, name: str, *, index: int | None = None, trust_pickle: bool = False) -> Any:
        """See kitaru.load."""
        from kitaru.artifact_client import decode
        from kitaru_registry.executions import artifacts, reading
        from kitaru_runner.protocol import Encoded

        found = reading.find_id(self.database, exec_id)
        artifact, data = artifacts.pick(self.database, found, name, index=index)
        return decode(self, Encoded(artifact.codec, data), artifact.artifact_id, trust_pickle=trust_pickle)

    def result(self, execution: Execution, *, trust_pickle: bool = False) -> Any:
        """The decoded result of a completed execution.

        Raises:
            KitaruNotFoundError: its values were deleted.
            KitaruUsageError: another user's home holds it pickled, and it is not to be trusted.
        """
        from kitaru.artifact_client import decode
        from kitaru_registry.executions import reading
        from kitaru_runner.protocol import Encoded

        encoded = Encoded(*reading.result_bytes(self.database, execution.exec_id))
        return decode(self, encoded, f"the result of {execution.exec_id}", trust_pickle=trust_pickle)

    def look_after(self, exec_id: ExecutionId) -> None:
        """See to it that somebody works on an open, deployed execution."""
        self.runner.look_after(exec_id)

    def gc(self) -> Deleted:
        """Apply `[retention]` now, and delete files in `values/` that nothing has named for a day."""
        from kitaru_registry.executions import retention
        from kitaru_runner.retention import apply

        self.runner.remember_retention()
        count = apply(self.database)
        return retention.collect(self.database).model_copy(update={"expired": count})

    def status(self) -> HomeStatus:
        """Flows, tags and versions of the project, and what is open."""
        from kitaru.overview import status

        return status(self)

    def doctor(self) -> list[DoctorCheck]:
        """Whether this machine and this home are fit, check by check."""
        from kitaru.overview import doctor

        return doctor(self)


def require_registry() -> None:
    """Refuse a client in the process of a deployed flow, whatever database library its environment holds.

    Raises:
        KitaruContextError: it is one.
    """
    started_as = getattr(sys.modules["__main__"], "__spec__", None)
    in_child = started_as is not None and started_as.name in CHILD_MODULES
    if in_child or importlib.util.find_spec("sqlalchemy") is None:
        raise KitaruContextError(
            "a deployed flow's process has no access to the registry",
            hint="use KitaruClient where flows are started, not inside a deployed one",
        )


def user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
