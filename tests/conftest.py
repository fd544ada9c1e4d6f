"""What every test may stand on: a home of its own, and the real `kitaru`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from postgres_server import Server, server

from kitaru_registry.home import Home

PATIENCE_SECONDS = 120

# Whoever runs the tests in the background may ignore Ctrl-C; the processes that they start must not have that of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, so that a failure belongs to the change that made it; HYPOTHESIS=random looks further.
settings.register_profile("same", derandomize=True)
settings.register_profile("random", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS", "same"))


@dataclass(frozen=True)
class Finished:
    """How a command ended. `item`, `items` and `error` are its JSON."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.stdout)  # type: ignore[no-any-return]

    @property
    def item(self) -> dict[str, Any]:
        return self.json["item"]  # type: ignore[no-any-return]

    @property
    def items(self) -> list[dict[str, Any]]:
        return self.json["items"]  # type: ignore[no-any-return]

    @property
    def error(self) -> dict[str, Any]:
        """The last line of stderr: progress may stand before it."""
        return json.loads(self.stderr.strip().splitlines()[-1])["error"]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Cli:
    """The real command line, in a process of its own, on one home, in one folder."""

    executable: Path
    home: Home
    folder: Path

    def __call__(
        self,
        *arguments: str,
        expect: int = 0,
        cwd: Path | None = None,
        stdin: str = "",
        env: Mapping[str, str] = {},
        umask: int = -1,
    ) -> Finished:
        """Run with `--output json`, and check the exit code."""
        return self.text(*arguments, "--output", "json", expect=expect, cwd=cwd, stdin=stdin, env=env, umask=umask)

    def text(
        self,
        *arguments: str,
        expect: int = 0,
        cwd: Path | None = None,
        stdin: str = "",
        env: Mapping[str, str] = {},
        umask: int = -1,
    ) -> Finished:
        """Run as a person would who reads the answer, and check the exit code."""
        done = subprocess.run(
            [self.executable, *arguments],
            cwd=cwd or self.folder,
            env={**os.environ, "KITARU_HOME": str(self.home.root), **env},
            umask=umask,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        told = f"kitaru {' '.join(arguments)} ended with {done.returncode}, not {expect}"
        assert done.returncode == expect, f"{told}\n{done.stdout}\n{done.stderr}"
        return Finished(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def kitaru_executable() -> Path:
    """The `kitaru` that belongs to the Python of this test run."""
    executable = Path(sys.executable).with_name("kitaru")
    assert executable.is_file(), f"{executable} is not there: install Kitaru into this environment"
    return executable


@pytest.fixture(scope="session")
def warm_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """What only speeds a home up: downloads and tools. Shared, so that one test run downloads a wheel once."""
    warm = Home(tmp_path_factory.mktemp("warm"))
    for folder in (warm.cache, warm.tools):
        folder.mkdir()
    return warm


@pytest.fixture
def cold_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kitaru_executable: Path) -> Iterator[Home]:
    """A home that does not exist yet, in KITARU_HOME. Its runner is ended with the test."""
    home = Home(tmp_path / "home")
    monkeypatch.setenv("KITARU_HOME", str(home.root))
    for name in ("KITARU_PROJECT", "KITARU_ACTOR"):
        monkeypatch.delenv(name, raising=False)
    yield home
    if home.runner.exists():
        subprocess.run(
            [kitaru_executable, "runner", "stop"],
            env={**os.environ, "KITARU_HOME": str(home.root)},
            cwd=tmp_path,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
        )


@pytest.fixture
def home(cold_home: Home, warm_home: Home) -> Home:
    """An empty home that need not download what an earlier test of this run has downloaded."""
    cold_home.root.mkdir(mode=0o700)
    for name in ("cache", "tools"):
        (cold_home.root / name).symlink_to(warm_home.root / name)
    return cold_home


@pytest.fixture
def run_cli(kitaru_executable: Path, home: Home, tmp_path: Path) -> Cli:
    """The command line, started in an empty folder that is no git repository."""
    folder = tmp_path / "work"
    folder.mkdir()
    return Cli(kitaru_executable, home, folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A real PostgreSQL of this test run's own."""
    with server() as started:
        yield started
