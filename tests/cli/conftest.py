"""A home and a project of one's own, and `kitaru` in this process: what it prints, and its exit code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from kitaru_cli.main import run
from kitaru_registry.database.opening import open_database
from kitaru_registry.deployments import versions as versions_of_record
from kitaru_registry.home import Home
from kitaru_registry.models import Digest, FlowOptions, GitFacts, Origin, SnapshotConfig


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def item(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)["item"]
        return found

    @property
    def items(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.out)["items"]
        return found

    @property
    def error(self) -> dict[str, Any]:
        assert self.out == ""
        found: dict[str, Any] = json.loads(self.err)["error"]
        return found


class Kitaru(Protocol):
    """`kitaru ARGUMENTS` in this process."""

    def __call__(self, *arguments: str) -> Outcome: ...


@pytest.fixture
def project(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with an empty home; no colour or width of the developer's own."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KITARU_ACTOR", "ada@analytical")
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


class Register(Protocol):
    """Make versions of a flow as `deploy` does in the end; no code stands behind them."""

    def __call__(self, flow: str, *, versions: int) -> None: ...


@pytest.fixture
def register(home: Home, project: Path) -> Iterator[Register]:
    database = open_database(home)

    def make(flow: str, *, versions: int) -> None:
        for number in range(1, versions + 1):
            digest = Digest("sha256:" + hashlib.sha256(f"{flow} {number}".encode()).hexdigest())
            versions_of_record.register(
                database,
                project="default",
                flow=flow,
                origin=Origin(remote=None, root_commit=None, folder=str(project)),
                digest=digest,
                config=config_of(flow, digest),
                git=GitFacts(commit="3f2a1b0c9d", branch="main", dirty=True),
                actor="ada@analytical",
            )

    yield make
    database.close()


def config_of(flow: str, digest: Digest) -> SnapshotConfig:
    return SnapshotConfig(
        flow=flow,
        entrypoint=f"flows.py:{flow}",
        options=FlowOptions(),
        input_schema={"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]},
        output_schema=None,
        python="3.11",
        platform="linux-x86_64",
        protocol=1,
        codec=1,
        kitaru="0.1.0",
        code=digest,
        lock=digest,
        wheels={},
    )


@pytest.fixture
def kitaru(project: Path, capfd: pytest.CaptureFixture[str]) -> Kitaru:
    def call(*arguments: str) -> Outcome:
        code = run(arguments)
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call
