"""Real trees, real repositories, and a store on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from trees import Tree

from kitaru_registry.models import FlowOptions, SnapshotFacts
from kitaru_registry.stores.layout import OciLayout

GIT_SETTINGS = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    # A submodule is cloned from a folder here, and a clone may belong to another user.
    "GIT_CONFIG_COUNT": "3",
    "GIT_CONFIG_KEY_0": "protocol.file.allow",
    "GIT_CONFIG_VALUE_0": "always",
    "GIT_CONFIG_KEY_1": "safe.directory",
    "GIT_CONFIG_VALUE_1": "*",
    "GIT_CONFIG_KEY_2": "init.defaultBranch",
    "GIT_CONFIG_VALUE_2": "main",
}


@pytest.fixture(autouse=True)
def git_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine's own configuration says, git behaves the same here."""
    for name, value in GIT_SETTINGS.items():
        monkeypatch.setenv(name, value)
    for name in [name for name in os.environ if name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")]:
        monkeypatch.delenv(name)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "tree"
    root.mkdir()
    return Tree(root)


@pytest.fixture
def repository(tree: Tree) -> Tree:
    tree.git("init", "--quiet")
    return tree


@pytest.fixture
def store(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "layout")


@pytest.fixture
def facts() -> SnapshotFacts:
    return SnapshotFacts(
        flow="review",
        entrypoint="flows/review.py:review",
        options=FlowOptions(retries=1, env=("LANG",)),
        input_schema={"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]},
        output_schema={"type": "string"},
        python="3.11",
        platform="linux-x86_64",
        protocol=1,
        codec=1,
        kitaru="0.1.0",
    )
