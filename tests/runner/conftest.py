"""Executions on a home of their own, run by the engine in the test's process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attempts import Executions, TestExecution, executions_on

from kitaru import testing
from kitaru_registry.home import Home


@pytest.fixture
def executions(tmp_path: Path) -> Iterator[Executions]:
    with executions_on(Home(tmp_path / "home")) as made:
        yield made


@pytest.fixture
def execution(executions: Executions) -> TestExecution:
    """An execution without inputs."""
    return executions.new()


@pytest.fixture
def clock() -> Iterator[testing.Clock]:
    """The time, which moves as the test says."""
    with testing.Clock() as made:
        yield made
