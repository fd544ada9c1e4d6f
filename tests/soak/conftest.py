"""Tests that take long, or need what not every machine lets a test do. `make soak` runs them, `make test` does not."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from power import PATIENCE_SECONDS, Disk, PoweredHome

from kitaru_registry.home import Home

collect_ignore_glob = [] if os.environ.get("KITARU_SOAK") else ["test_*.py"]

NewHome = Callable[..., PoweredHome]

PROJECT = Path(__file__).parent / "project"


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(PROJECT, tmp_path_factory.mktemp("soak") / "project"))


@pytest.fixture(scope="session")
def deployed(project: Path, warm_home: Home, kitaru_executable: Path) -> Home:
    """A home outside of the disk, in which `careful` is deployed."""
    return home_with("flows.py:careful", project, warm_home, kitaru_executable)


@pytest.fixture(scope="session")
def stormy(project: Path, warm_home: Home, kitaru_executable: Path) -> Home:
    """A home in which `storm` is deployed."""
    return home_with("storm.py:storm", project, warm_home, kitaru_executable)


def home_with(target: str, project: Path, warm_home: Home, executable: Path) -> Home:
    home = Home(project.with_name(f"home of {target.partition(':')[2]}"))
    home.root.mkdir(mode=0o700)
    for warm in (warm_home.cache, warm_home.tools):
        (home.root / warm.name).symlink_to(warm)
    subprocess.run(
        [executable, "deploy", target],
        cwd=project,
        env={**os.environ, "KITARU_HOME": str(home.root)},
        check=True,
        timeout=4 * PATIENCE_SECONDS,
    )
    return home


@pytest.fixture
def new_disk(project: Path, tmp_path: Path) -> Iterator[NewHome]:
    """Mounts a disk with no home on it."""
    made: list[PoweredHome] = []

    def mount(*, ignores: str = "") -> PoweredHome:
        powered = PoweredHome(Disk(tmp_path, ignores=ignores), project, tmp_path / "trace")
        made.append(powered)
        powered.disk.mount()
        return powered

    yield mount
    for powered in made:
        powered.end()


@pytest.fixture
def empty_home(new_disk: NewHome, deployed: Home) -> NewHome:
    """Mounts a disk with a home in which there is nothing. What can be had again at any time lies elsewhere."""

    def mount() -> PoweredHome:
        powered = new_disk()
        lay_home(powered, deployed.environments, deployed.cache, deployed.tools)
        return powered

    return mount


@pytest.fixture
def new_home(new_disk: NewHome, deployed: Home) -> NewHome:
    """Mounts a disk with a home in which `careful` is deployed; its snapshot lies elsewhere."""

    def mount(*, ignores: str = "") -> PoweredHome:
        powered = new_disk(ignores=ignores)
        lay_home(powered, deployed.environments, deployed.layout)
        for file in deployed.root.glob(f"{deployed.database.name}*"):
            shutil.copy(file, powered.home.root)
        powered.disk.ask("settle")
        return powered

    return mount


def lay_home(powered: PoweredHome, *elsewhere: Path) -> None:
    powered.home.root.mkdir(mode=0o700)
    for folder in elsewhere:
        (powered.home.root / folder.name).symlink_to(folder)
    powered.disk.ask("settle")
