"""A home in which the flows of `project/` are deployed, made once and copied for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from crashes import PATIENCE_SECONDS, Template, Trial, trial

from kitaru.client import KitaruClient
from kitaru_registry.home import Home

FLOWS = ("tour", "doomed", "stumbling", "gated")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, warm_home: Home, kitaru_executable: Path) -> Template:
    folder = tmp_path_factory.mktemp("crash")
    home = Home(folder / "home")
    home.root.mkdir(mode=0o700)
    for warm in (warm_home.cache, warm_home.tools):
        (home.root / warm.name).symlink_to(warm)
    project = folder / "project"
    shutil.copytree(Path(__file__).parent / "project", project)
    for name in FLOWS:
        subprocess.run(
            [kitaru_executable, "deploy", f"flows.py:{name}"],
            cwd=project,
            env={**os.environ, "KITARU_HOME": str(home.root)},
            check=True,
            timeout=2 * PATIENCE_SECONDS,
        )
    client = KitaruClient(home, cwd=project)
    tour = client.deployments.invoke(flow="tour", inputs={"topic": "agents"})
    client.database.close()
    return Template(home, project, tour.exec_id)


@pytest.fixture
def start_trial(template: Template, tmp_path: Path) -> Iterator[Callable[[], Trial]]:
    """Gives copies of the home; their processes are ended with the test."""
    with ExitStack() as stack:
        numbers = iter(range(100))
        yield lambda: stack.enter_context(trial(template, tmp_path / str(next(numbers))))


@pytest.fixture
def home_copy(start_trial: Callable[[], Trial]) -> Trial:
    return start_trial()
