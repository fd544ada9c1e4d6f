"""The layout alone is enough: a deployed flow runs without a network, and without anything that was cached."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.conftest import PATIENCE_SECONDS
from tests.stories.conftest import without_network

if TYPE_CHECKING:
    from tests.stories.conftest import Place


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    if shutil.which("unshare") is None or without_network(["/bin/true"]).returncode != 0:
        pytest.skip("this machine does not let a test cut its own network off (unshare --net)")


def test_it_runs_from_the_layout_alone(place: Place, tmp_path: Path) -> None:
    home = place.home
    for rebuilt in (home.environments, home.code, home.cache, home.tools):
        rebuilt.unlink()
    assert {path.name for path in home.root.iterdir()} == {"kitaru.db", "layout"}
    empty = {name: tmp_path / name for name in ("home", "uv", "xdg", "work")}
    for folder in empty.values():
        folder.mkdir()
    env = {
        **os.environ,
        "KITARU_HOME": str(home.root),
        "HOME": str(empty["home"]),
        "UV_CACHE_DIR": str(empty["uv"]),
        "XDG_CACHE_HOME": str(empty["xdg"]),
    }
    invoke = [place.cli.executable, "invoke", "connect", "-o", "json"]

    done = without_network(invoke, cwd=empty["work"], env=env, timeout=PATIENCE_SECONDS)

    assert done.returncode == 0, done.stdout + done.stderr
    execution = json.loads(done.stdout)["item"]
    assert (execution["status"], execution["result"]) == ("completed", "Network is unreachable")
    assert list(home.environments.glob("*/bin/python"))
