"""`kitaru` as a process: what holds of its start and its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kitaru_registry.database.opening import open_database
from kitaru_registry.home import Home
from kitaru_runner.host import presence
from kitaru_runner.host.locks import is_held

FLOWS = """
import gc

from kitaru import flow


class Farewell:
    def __init__(self):
        self.itself = self

    def __del__(self):
        print("farewell")


@flow
def part() -> str:
    globals()["kept"] = Farewell()
    return "the usual pace" if gc.get_threshold() == USUALLY else "another pace"


USUALLY = THRESHOLDS
"""


def in_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "kitaru_cli", *arguments], capture_output=True, text=True, timeout=60)


def test_a_command_leaves_the_database_closed(home: Home, project: Path) -> None:
    made = in_a_process("status")

    assert made.returncode == 0, made.stderr
    assert sorted(path.name for path in home.root.glob("kitaru.db*")) == ["kitaru.db"]


def test_a_flow_finds_the_garbage_collector_as_python_sets_it(project: Path) -> None:
    usually = subprocess.check_output([sys.executable, "-c", "import gc; print(gc.get_threshold())"], text=True)
    (project / "flows.py").write_text(FLOWS.replace("THRESHOLDS", usually.strip()))

    done = in_a_process("run", "flows.py:part")

    assert done.stdout.splitlines() == ["the usual pace", "farewell"], done.stderr


def test_a_table_in_a_pipe_needs_no_rich(project: Path) -> None:
    program = (
        "import sys; from kitaru_cli.main import run; run(['doctor']);"
        "print([name for name in sys.modules if name.partition('.')[0] == 'rich'], file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stderr == "[]\n"


def test_a_resume_starts_the_runner_before_it_loads_anything(home: Home, project: Path) -> None:
    open_database(home).close()
    home.runner.mkdir()

    done = in_a_process("executions", "resume", "nothing")

    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert presence.wait_for_runner(home).local
    presence.stop_local(home)


@pytest.mark.parametrize("line", ["executions resume --help", "executions resume", "invoke --help", "executions get x"])
def test_a_line_that_needs_no_runner_starts_none(line: str, home: Home, project: Path) -> None:
    open_database(home).close()
    home.runner.mkdir()

    in_a_process(*line.split())

    assert not is_held(presence.local_lock(home))
    assert list(home.runner.iterdir()) == []
