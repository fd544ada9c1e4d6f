"""Flows in a folder of their own: loaded into the test's process, or executed by processes that can be ended."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

from kitaru import KitaruClient
from kitaru_registry.home import Home
from kitaru_registry.models import Execution
from kitaru_runner.child.loader import load_module

PATIENCE_SECONDS = 60
IMPORTS = "from kitaru import *\nimport asyncio, os, sys, time\nfrom pathlib import Path\n"


def until(there: Callable[[], bool], what: str) -> None:
    """Return as soon as it holds; polled, because another thread or process makes it true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not there():
        assert time.monotonic() < deadline, f"it never came about that {what}"
        time.sleep(0.01)


@dataclass
class Project:
    """A folder with flows, no project to git or Kitaru."""

    root: Path
    home: Home
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def client(self) -> KitaruClient:
        return KitaruClient(self.home, cwd=self.root)

    def write(self, source: str, *, name: str = "flows.py") -> Path:
        path = self.root / name
        path.write_text(IMPORTS + source)
        return path

    def load(self, source: str) -> ModuleType:
        """The module in this process, as `kitaru run` has it."""
        return load_module(self.root, self.write(source))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `python ARGUMENTS` in the folder."""
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=self.root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def kitaru(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`kitaru ARGUMENTS` in another process than the test's."""
        command = [sys.executable, "-m", "kitaru_cli", *arguments]
        return subprocess.run(
            command, cwd=self.root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )

    def open_gate(self, name: str) -> None:
        """Let a flow go on that polls for this file."""
        (self.root / name).touch()

    def until(self, there: Callable[[], bool], what: str) -> None:
        until(there, what)

    def until_there(self, name: str) -> None:
        until((self.root / name).exists, f"{name} is there")

    def until_status(self, exec_id: str, status: str) -> Execution:
        until(lambda: self.client.executions.get(exec_id).status == status, f"the execution is {status}")
        return self.client.executions.get(exec_id)

    def only_execution(self) -> Execution:
        (found,) = self.client.executions.list()
        return self.client.executions.get(found.exec_id)


@pytest.fixture
def project(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setenv("KITARU_ACTOR", "ada@analytical")
    monkeypatch.setattr(sys, "path", list(sys.path))
    made = Project(root, home)
    yield made
    sys.modules.pop("flows", None)
    for process in made.started:
        process.kill()
        process.communicate()
