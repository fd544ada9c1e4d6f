"""The rules about imports in pyproject.toml hold what they say: each breaks where one wrong import is added."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("registry", "runner", "sdk", "cli", "templates")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is checked."""
    root = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / "pyproject.toml", root)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def broken_rules(tree: Path) -> list[str]:
    """Names of the rules that do not hold."""
    code = f"import sys; sys.path[:0] = {[str(tree / name) for name in PACKAGES]!r}; from importlinter.cli import *"
    run = [sys.executable, "-c", f"{code}; lint_imports_command()", "--no-cache"]
    said = subprocess.run(run, cwd=tree, capture_output=True, text=True, check=False, timeout=60).stdout
    assert "Contracts: " in said, said
    return [line.removesuffix(" BROKEN") for line in said.splitlines() if line.endswith(" BROKEN")]


@pytest.mark.parametrize(
    ("file", "line", "rule"),
    [
        (
            "runner/kitaru_runner/engine/core/attempt.py",
            "if TYPE_CHECKING:\n    from kitaru_runner.engine.body.body import run_body",
            "no circle in runner, at any depth, in annotations neither",
        ),
        (
            "runner/kitaru_runner/host/serving.py",
            "def later() -> None:\n    from kitaru_runner.child import loader",
            "rooms of the runner stand on each other one way",
        ),
        (
            "runner/kitaru_runner/engine/core/attempt.py",
            "def later() -> None:\n    from kitaru_runner.engine.checkpoints import call",
            "rooms of the engine stand on each other one way",
        ),
        (
            "registry/kitaru_registry/clock.py",
            "def later() -> None:\n    from kitaru_registry.executions import queue",
            "no circle in registry, at any depth, in annotations neither",
        ),
        (
            "registry/kitaru_registry/clock.py",
            "def later() -> None:\n    from kitaru_runner.engine.core import attempt",
            "imports run one way: cli -> sdk -> runner -> registry",
        ),
    ],
)
def test_a_wrong_import_breaks_its_rule(tree: Path, file: str, line: str, rule: str) -> None:
    changed = tree / file
    before = changed.read_text()
    changed.write_text(f"{before}\n\nfrom typing import TYPE_CHECKING\n{line}\n")
    try:
        assert rule in broken_rules(tree)
    finally:
        changed.write_text(before)


def test_they_hold_for_what_is_here(tree: Path) -> None:
    assert broken_rules(tree) == []
