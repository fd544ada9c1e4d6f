"""A git repository of flows, and a home in which they are deployed: both made once, and copied for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PATIENCE_SECONDS, Cli, Finished

from kitaru_registry.home import Home

TARGETS = (
    "flows/review.py:review_flow",
    "flows/look.py:look",
    "flows/look.py:connect",
    "flows/look.py:ask_registry",
    "flows/letter.py:letter",
    "flows/orders.py:purchase",
    "flows/orders.py:purchase_async",
    "flows/family.py:family",
)
REVIEW = TARGETS[0]


@dataclass(frozen=True)
class Repository:
    """A real git repository with a working tree."""

    root: Path

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, text=True)
        assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def clone(self, target: Path, *, umask: int = -1) -> Repository:
        command = ["git", "clone", "--quiet", str(self.root), str(target)]
        subprocess.run(command, check=True, umask=umask)
        copy = Repository(target)
        copy.introduce()
        return copy

    def introduce(self) -> None:
        for name, value in (("name", "Ada"), ("email", "ada@example.org")):
            self.git("config", f"user.{name}", value)

    def commit(self, message: str = "change") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.root / path
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))


@dataclass(frozen=True)
class Place:
    """A home, a clone of the repository to work in, and the command line."""

    cli: Cli
    repository: Repository

    @property
    def home(self) -> Home:
        return self.cli.home

    def __call__(self, *arguments: str, expect: int = 0, **options: Any) -> Finished:
        return self.cli(*arguments, expect=expect, **options)

    def deploy(self, target: str = REVIEW, *options: str, **how: Any) -> dict[str, Any]:
        return self("deploy", target, *options, **how).item

    def invoke(self, ref: str, inputs: str = "{}", *options: str, expect: int = 0, **how: Any) -> dict[str, Any]:
        return self("invoke", ref, "--input", inputs, *options, expect=expect, **how).item

    def settled(self, exec_id: str, *, status: str = "completed", **how: Any) -> dict[str, Any]:
        """The execution, as soon as it has the status; polled, because another process brings it there."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := self("executions", "get", exec_id, **how).item)["status"] != status:
            assert found["status"] in ("pending", "running", "waiting"), found["error"]
            assert time.monotonic() < deadline, f"it is {found['status']}, not {status}"
            time.sleep(0.1)
        return found

    def answer(self, exec_id: str, value: str) -> dict[str, Any]:
        """Answer the only pending wait; the execution at its end."""
        self("executions", "input", exec_id, "--value", value)
        return self.settled(exec_id)

    def at_once(self, *commands: Sequence[str], cwds: Sequence[Path] = ()) -> list[Finished]:
        """Run commands beside each other."""
        folders = cwds or [self.cli.folder] * len(commands)
        started = [
            subprocess.Popen(
                [self.cli.executable, *command, "-o", "json"],
                cwd=folder,
                env={**os.environ, "KITARU_HOME": str(self.home.root)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for command, folder in zip(commands, folders, strict=True)
        ]
        ended = []
        for process in started:
            with process:
                stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
            ended.append(Finished(process.returncode, stdout, stderr))
        return ended

    def stop(self) -> None:
        """No local runner works on the home any more; it may have none."""
        if self.home.runner.exists():
            environment = {**os.environ, "KITARU_HOME": str(self.home.root)}
            command = [self.cli.executable, "runner", "stop"]
            subprocess.run(command, cwd=self.home.root, env=environment, capture_output=True, timeout=PATIENCE_SECONDS)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory, warm_home: Home, kitaru_executable: Path) -> Place:
    """The flows of `agents/`, committed, and each deployed as v1. No runner works on this home: copy it."""
    root = tmp_path_factory.mktemp("shelf")
    repository = Repository(root / "agents")
    shutil.copytree(Path(__file__).parent / "agents", repository.root, ignore=shutil.ignore_patterns("__pycache__"))
    repository.git("init", "--quiet", "--initial-branch", "main")
    repository.introduce()
    repository.commit("Begin")
    home = Home(root / "home")
    home.root.mkdir(mode=0o700)
    for warm in (warm_home.cache, warm_home.tools):
        (home.root / warm.name).symlink_to(warm)
    place = Place(Cli(kitaru_executable, home, repository.root), repository)
    for target in TARGETS:
        place.deploy(target)
    return place


def copy_of(shelf: Place, folder: Path) -> Place:
    """A home of one's own with the same versions, and a clone of the repository. Caches and environments are shared."""
    home = Home(folder / "home")
    home.root.mkdir(mode=0o700, parents=True)
    shutil.copy2(shelf.home.database, home.database)
    shutil.copytree(shelf.home.layout, home.layout)
    for shared in (shelf.home.environments, shelf.home.code, shelf.home.cache, shelf.home.tools):
        (home.root / shared.name).symlink_to(shared.resolve())
    repository = shelf.repository.clone(folder / "agents")
    return Place(Cli(shelf.cli.executable, home, repository.root), repository)


@pytest.fixture
def place(shelf: Place, tmp_path: Path) -> Iterator[Place]:
    """A copy of the shelf for one test."""
    copy = copy_of(shelf, tmp_path / "place")
    yield copy
    copy.stop()


@pytest.fixture(scope="module")
def shared_place(shelf: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A copy of the shelf for the tests of one file, which leave each other alone."""
    copy = copy_of(shelf, tmp_path_factory.mktemp("place"))
    yield copy
    copy.stop()


@pytest.fixture
def elsewhere(tmp_path: Path, warm_home: Home, kitaru_executable: Path) -> Iterator[Callable[[Path], Place]]:
    """Gives empty homes, for projects of the test's own."""
    made: list[Place] = []

    def make(project: Path) -> Place:
        home = Home(tmp_path / f"home{len(made)}")
        home.root.mkdir(mode=0o700)
        for warm in (warm_home.cache, warm_home.tools):
            (home.root / warm.name).symlink_to(warm)
        made.append(Place(Cli(kitaru_executable, home, project), Repository(project)))
        return made[-1]

    yield make
    for place in made:
        place.stop()


@pytest.fixture(autouse=True, scope="session")
def no_settings_of_the_developer() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        for name in ("KITARU_HOME", "KITARU_PROJECT", "KITARU_ACTOR"):
            environment.delenv(name, raising=False)
        yield


def without_network(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a network namespace that holds nothing but loopback."""
    who = [] if os.geteuid() == 0 else ["--map-root-user"]
    inside = [sys.executable, "-c", LOOPBACK_UP, *map(str, command)]
    return subprocess.run(["unshare", *who, "--net", *inside], capture_output=True, text=True, **options)


LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
os.execv(sys.argv[1], sys.argv[1:])
"""
