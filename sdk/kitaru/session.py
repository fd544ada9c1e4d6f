"""Whom a program asks, for which project, as whom: what every door of the SDK stands on."""

from __future__ import annotations

import getpass
import importlib.util
import os
import socket
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from kitaru.databases import shared
from kitaru.door import check_path
from kitaru_registry.errors import KitaruContextError
from kitaru_registry.home import Home, default_home

# A deployed flow's file may import this too: what its lean environment lacks is imported at need.
if TYPE_CHECKING:
    from kitaru.databases import Opened, Use
    from kitaru_registry.api.request import Registry, Request
    from kitaru_registry.config import ProjectConfig
    from kitaru_registry.database.opening import Database
    from kitaru_registry.executions.journal import JournalWriter
    from kitaru_registry.models import Execution
    from kitaru_registry.stores.layout import OciLayout

T = TypeVar("T")

CHILD_MODULES = frozenset({"kitaru_runner.child.__main__", "kitaru_runner.child.describe"})
"""What the process of a deployed flow is started as, and the one that imports it for a deploy."""


class Session:
    """A registry, a project and an actor. What it opened is closed when it goes, or at the end of a `with` block.

    Args:
        home: by default what `KITARU_HOME` names, else `~/.kitaru`.
        project: by default what `KITARU_PROJECT` or the nearest kitaru.toml says.
        cwd: where kitaru.toml is looked for; by default the present folder.

    Raises:
        KitaruContextError: in the process of a deployed flow, which opens no registry.
    """

    def __init__(self, home: Home | Path | None = None, project: str | None = None, *, cwd: Path | None = None) -> None:
        require_registry()
        self._home = Home(home) if isinstance(home, Path) else home or default_home()
        check_path("the home", self._home.root)
        self.cwd = cwd or Path.cwd()
        self.named_project = project
        """What it was told, whatever kitaru.toml says."""
        self._use: Use | None = None

    @cached_property
    def home(self) -> Home:
        """With the record that the project's kitaru.toml names, if it names one."""
        return self._home if self._home.record is not None else self.config.placed(self._home)

    @cached_property
    def config(self) -> ProjectConfig:
        from kitaru_registry.config import load_project

        return load_project(self.cwd)

    @property
    def project(self) -> str:
        return self.named_project or self.config.project

    @cached_property
    def actor(self) -> str:
        """Who does what this session does: `KITARU_ACTOR`, else user@host."""
        return os.environ.get("KITARU_ACTOR") or f"{user_name()}@{socket.gethostname()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the registry, unless another session of this process uses it. This one can be used again."""
        if self._use is not None:
            self._use.end()
            self._use = None
            shared.close_unused()

    @property
    def registry(self) -> Registry:
        return self._opened.registry

    def ask(self, request: Request[T]) -> T:
        """The registry's answer to this session's actor.

        Raises:
            KitaruError: what the request's docstring says.
        """
        from kitaru_registry.api.request import Actor

        return self.registry.ask(request, by=Actor(self.actor))

    @property
    def database(self) -> Database:
        """The home's record, for what this process executes itself."""
        return self._opened.database

    @property
    def writer(self) -> JournalWriter:
        """Over which this process records what it executes itself."""
        return self._opened.writer

    @property
    def layout(self) -> OciLayout:
        return self._opened.registry.holdings.layout

    @property
    def _opened(self) -> Opened:
        if self._use is None or self._use.opened.is_closed:
            self._use = shared.take(self, self.home, self.config.journal.synchronous)
        return self._use.opened

    def shown(self, execution: Execution) -> Execution:
        """The record as whoever holds this session is to have it."""
        return execution


def require_registry() -> None:
    """Refuse a session in the process of a deployed flow, whatever database library its environment holds.

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
