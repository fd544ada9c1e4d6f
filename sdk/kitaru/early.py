"""Start the local runner while the command that needs it still loads its libraries: each takes half a second."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kitaru_registry import toml_text
from kitaru_registry.home import Home, default_home
from kitaru_runner.host import presence
from kitaru_runner.host.locks import is_held

DEFAULT_JOURNAL = {"synchronous": "FULL"}

_holds: list[int] = []
"""The pipe that holds a runner of this process; its other end is the runner's stdin."""


def start_runner_early(folder: Path) -> None:
    """Start the home's local runner, if it has none, has been used before, and no kitaru.toml says anything of runners.

    In all other cases whoever makes work pending sees to it, as ever.
    """
    home = default_home()
    if home.database.exists() and may_start(home, folder):
        presence.start_local(home)


def start_runner_on_hold(folder: Path) -> None:
    """As `start_runner_early`, where the home has had a local runner, for a `runner_on_hold` that is to come.

    The hold ends with this process too.
    """
    home = default_home()
    if not home.runner.exists() or not may_start(home, folder):
        return
    waits, holds = os.pipe()
    _holds.append(holds)
    try:
        presence.start_local(home, ["--on-hold"], stdin=waits)
    finally:
        os.close(waits)


@contextmanager
def runner_on_hold(folder: Path) -> Iterator[None]:
    """Within this context a runner that is started early takes nothing over.

    So whoever looks here at an execution that nobody has finds it as it was.
    """
    if not _holds:
        start_runner_on_hold(folder)
    try:
        yield
    finally:
        while _holds:
            os.close(_holds.pop())


def may_start(home: Home, folder: Path) -> bool:
    return not is_held(presence.local_lock(home)) and not is_configured(folder)


def is_configured(folder: Path) -> bool:
    """Whether a kitaru.toml above says what a runner is started with, other than by default, or cannot be read."""
    for above in (folder, *folder.parents):
        file = above / "kitaru.toml"
        if file.is_file():
            try:
                said = toml_text.parse(file.read_text())
                return "runner" in said or "registry" in said or said.get("journal", DEFAULT_JOURNAL) != DEFAULT_JOURNAL
            except (OSError, ValueError):
                return True
    return False
