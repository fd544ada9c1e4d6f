"""A home in which the flows of `project/` are deployed, made once and copied for each test."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from crashes import PATIENCE_SECONDS, Template, Trial

from kitaru_registry.home import Home
from kitaru_registry.models import ExecutionId

FLOWS = ("tour", "doomed", "stumbling", "gated", "hoarding", "whole")
TARGETS = (*(f"flows.py:{name}" for name in FLOWS), "leaving.py:leaving")


@pytest.fixture(scope="session")
def template(
    tmp_path_factory: pytest.TempPathFactory, warm_home: Home, kitaru_executable: Path, worker_id: str
) -> Template:
    """Shared by the processes that pytest-xdist starts: the first to come makes it."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "crash"
    folder.mkdir(exist_ok=True)
    home, project, made = Home(folder / "home"), folder / "project", folder / "made"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            deploy_all(home, project, warm_home, kitaru_executable)
            made.touch()
    return Template(home, project)


def deploy_all(home: Home, project: Path, warm_home: Home, kitaru_executable: Path) -> None:
    home.root.mkdir(mode=0o700)
    for warm in (warm_home.cache, warm_home.tools):
        (home.root / warm.name).symlink_to(warm)
    shutil.copytree(Path(__file__).parent / "project", project)
    for target in TARGETS:
        subprocess.run(
            [kitaru_executable, "deploy", target],
            cwd=project,
            env={**os.environ, "KITARU_HOME": str(home.root)},
            check=True,
            timeout=2 * PATIENCE_SECONDS,
        )


@pytest.fixture
def trial(template: Template, tmp_path: Path) -> Iterator[Trial]:
    copied = Trial.copy(template, tmp_path / "trial")
    yield copied
    copied.end_processes()


@pytest.fixture
def home(trial: Trial) -> Home:
    """What `run_cli` works on."""
    return trial.home


@pytest.fixture
def tour(trial: Trial) -> ExecutionId:
    """An execution of `tour` that nobody has claimed."""
    return trial.invoke("tour", topic="agents")
