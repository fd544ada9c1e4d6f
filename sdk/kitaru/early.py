"""Start the local runner while the command that needs it still loads its libraries: each takes half a second."""

from __future__ import annotations

import tomllib
from pathlib import Path

from kitaru_registry.home import default_home
from kitaru_runner import presence
from kitaru_runner.locks import is_held


def start_runner_early(folder: Path) -> None:
    """Start the home's local runner, if it has none, has been used before, and no kitaru.toml says anything of runners.

    In all other cases whoever makes work pending sees to it, as ever.
    """
    home = default_home()
    if not home.database.exists() or is_held(presence.local_lock(home)) or is_configured(folder):
        return
    presence.start_local(home)


def is_configured(folder: Path) -> bool:
    """Whether a kitaru.toml above has a section that a runner is started by, or cannot be read."""
    for above in (folder, *folder.parents):
        file = above / "kitaru.toml"
        if file.is_file():
            try:
                return bool({"runner", "journal"} & tomllib.loads(file.read_text()).keys())
            except (OSError, ValueError):
                return True
    return False
