"""Start the local runner while the command that needs it still loads its libraries: each takes half a second."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kitaru_registry.home import Home, default_home
from kitaru_runner import presence
from kitaru_runner.locks import is_held

DEFAULT_JOURNAL = {"synchronous": "FULL"}


def start_runner_early(folder: Path) -> None:
    """Start the home's local runner, if it has none, has been used before, and no kitaru.toml says anything of runners.

    In all other cases whoever makes work pending sees to it, as ever.
    """
    home = default_home()
    if home.database.exists() and may_start(home, folder):
        presence.start_local(home)


@contextmanager
def runner_on_hold(folder: Path) -> Iterator[None]:
    """As `start_runner_early`, where the home has had a local runner; it takes nothing over within this context.

    So whoever looks here at an execution that nobody has finds it as it was. The hold ends with this process too.
    """
    home = default_home()
    if not home.runner.exists() or not may_start(home, folder):
        yield
        return
    waits, holds = os.pipe()
    try:
        presence.start_local(home, ["--on-hold"], stdin=waits)
    finally:
        os.close(waits)
    try:
        yield
    finally:
        os.close(holds)


def may_start(home: Home, folder: Path) -> bool:
    return not is_held(presence.local_lock(home)) and not is_configured(folder)


def is_configured(folder: Path) -> bool:
    """Whether a kitaru.toml above says what a runner is started with, other than by default, or cannot be read."""
    for above in (folder, *folder.parents):
        file = above / "kitaru.toml"
        if file.is_file():
            try:
                said = tomllib.loads(file.read_text())
                return "runner" in said or said.get("journal", DEFAULT_JOURNAL) != DEFAULT_JOURNAL
            except (OSError, ValueError):
                return True
    return False
