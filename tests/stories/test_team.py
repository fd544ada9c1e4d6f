"""Two homes of a team: one record in PostgreSQL, one folder of snapshots."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres_server import Server
from tests.conftest import PATIENCE_SECONDS, Cli

from kitaru_registry.home import Home

FLOWS = """
import time
import kitaru

@kitaru.checkpoint
def collect(topic: str) -> str:
    print("collecting", topic)
    return topic * 20_000

@kitaru.checkpoint
def write(text: str, tone: str) -> str:
    return f"{len(text)} {tone}"

@kitaru.checkpoint
def fail_once(path: str) -> str:
    import os
    if not os.path.exists(path):
        open(path, "w").close()
        raise ValueError("not yet")
    return "now"

@kitaru.flow
def letter(topic: str) -> str:
    text = collect(topic)
    tone = kitaru.wait(name="tone", schema=str)
    return write(text, tone)

@kitaru.flow
def shaky(path: str) -> str:
    return fail_once(path)
"""
CONFIG = """
project = "team"

[registry]
database = "env:TEAM_DATABASE"
store = "../store"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("team") / "project"
    folder.mkdir()
    (folder / "flows.py").write_text(FLOWS)
    (folder / "kitaru.toml").write_text(CONFIG)
    return folder


@pytest.fixture
def url(postgres_server: Server) -> str:
    return postgres_server.url(postgres_server.new_database())


@pytest.fixture
def homes(
    tmp_path: Path, kitaru_executable: Path, warm_home: Home, project: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Cli, Cli]]:
    """Ada's and Bob's: nothing but the database and the store is shared."""
    monkeypatch.setenv("TEAM_DATABASE", url)
    made = []
    for name in ("ada", "bob"):
        home = Home(tmp_path / name)
        home.root.mkdir(mode=0o700)
        for shared in ("cache", "tools"):
            (home.root / shared).symlink_to(getattr(warm_home, shared))
        made.append(Cli(kitaru_executable, home, project))
    yield made[0], made[1]
    for each in made:
        subprocess.run(
            [kitaru_executable, "runner", "stop"], cwd=project, capture_output=True, timeout=PATIENCE_SECONDS,
            env={**os.environ, "KITARU_HOME": str(each.home.root)},
        )  # fmt: skip


def until(cli: Cli, exec_id: str, status: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = cli("executions", "get", exec_id).item
        if found["status"] == status:
            return found
        open_ones = ("pending", "running", "waiting")
        assert found["status"] in open_ones, found["error"]
        assert time.monotonic() < deadline, found["status"]
        time.sleep(0.1)


def test_one_deploys_another_executes_and_either_answers(homes: tuple[Cli, Cli]) -> None:
    ada, bob = homes
    assert ada("migrate").item["created"]
    ada("deploy", "flows.py:letter")

    exec_id = bob("invoke", "letter", "--input", '{"topic": "ab"}', "--detach").item["exec_id"]
    waiting = until(ada, exec_id, "waiting")
    assert [wait["name"] for wait in waiting["pending_waits"]] == ["tone"]
    ada("executions", "input", exec_id, "--value", '"kind"')

    ended = until(bob, exec_id, "completed")
    assert ended["result"] == "40000 kind"
    assert until(ada, exec_id, "completed")["result"] == "40000 kind"
    assert not (bob.home.root / "kitaru.db").exists()
    assert not (bob.home.root / "layout").exists()


def test_what_failed_for_one_is_retried_and_replayed_by_another(homes: tuple[Cli, Cli], tmp_path: Path) -> None:
    ada, bob = homes
    ada("migrate")
    ada("deploy", "flows.py:shaky")
    failing = json.dumps({"path": str(tmp_path / "once")})
    exec_id = ada("invoke", "shaky", "--input", failing, "--detach").item["exec_id"]
    until(bob, exec_id, "failed")

    bob("executions", "retry", exec_id, "--detach")
    assert until(ada, exec_id, "completed")["attempt"] == 2
    replayed = bob("executions", "replay", exec_id, "--from", "fail_once", "--detach").item["exec_id"]
    assert until(ada, replayed, "completed")["original_exec_id"] == exec_id


RUN = r"""
import sys
from flows import letter
handle = letter.run("abc")
# In one piece: the flow prints on a thread of its own.
sys.stdout.write(f"\nexecution {handle.exec_id}\n")
sys.stdout.flush()
print(handle.wait())
"""


def test_a_flow_of_the_working_tree_is_answered_from_another_home(homes: tuple[Cli, Cli], project: Path) -> None:
    ada, bob = homes
    ada("migrate")
    environment = {**os.environ, "KITARU_HOME": str(ada.home.root)}
    with subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=project, env=environment, stdout=subprocess.PIPE, text=True
    ) as script:
        try:
            assert script.stdout is not None
            exec_id = next(line.split()[1] for line in script.stdout if line.startswith("execution "))
            until(bob, exec_id, "waiting")
            bob("executions", "input", exec_id, "--value", '"kind"')
            assert script.stdout.read().splitlines()[-1] == "60000 kind"
        finally:
            script.kill()
    assert until(bob, exec_id, "completed")["kind"] == "source"
