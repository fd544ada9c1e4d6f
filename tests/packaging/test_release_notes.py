"""The template `release_notes`: what it reads from a real history, and what it writes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from kitaru import scaffolding


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[ModuleType]:
    """The template, as `kitaru init` copies it."""
    scaffolding.init(tmp_path / "agent", template="release_notes")
    spec = importlib.util.spec_from_file_location("release_notes", tmp_path / "agent" / "release_notes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["release_notes"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["release_notes"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Three commits, by two authors, in two folders and at the top."""
    folder = tmp_path / "project"
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", str(folder))
    commit(folder, "Begin", {"README.md": "Hello\n", "src/app.py": "print()\n"})
    commit(folder, "Add the café page", {"src/café.py": "1\n2\n"}, author="Bob")
    git(folder, "tag", "v1")
    commit(folder, "Say hello twice", {"README.md": "Hello\nHello\n", "docs/logo.bin": b"\0\1"})
    return folder


def commit(folder: Path, subject: str, files: dict[str, str | bytes], author: str = "Ana") -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", subject, author=author)


def git(folder: Path, *arguments: str, author: str = "Ana") -> None:
    person = {f"GIT_{role}_{what}": author for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["git", *arguments], cwd=folder, env=os.environ | person, check=True, capture_output=True)


def test_it_reads_every_commit_with_its_files_and_lines(agent: ModuleType, repository: Path) -> None:
    newest, second, _ = agent.read_history(str(repository), None)

    assert (newest.subject, newest.author) == ("Say hello twice", "Ana")
    assert (newest.files, newest.added, newest.removed) == (("README.md", "docs/logo.bin"), 1, 0)
    assert (second.files, second.added, second.author) == (("src/café.py",), 2, "Bob")


def test_it_starts_after_the_commit_that_it_is_told(agent: ModuleType, repository: Path) -> None:
    assert [commit.subject for commit in agent.read_history(str(repository), "v1")] == ["Say hello twice"]


def test_a_folder_without_a_history_is_named(agent: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=str(tmp_path / "nowhere")):
        agent.read_history(str(tmp_path / "nowhere"), None)


def test_a_revision_cannot_be_taken_for_an_option(agent: ModuleType, repository: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="git cannot read"):
        agent.read_history(str(repository), f"--output={tmp_path / 'harm'}")

    assert not (tmp_path / "harm..HEAD").exists()


def test_it_groups_by_folder_the_busiest_first(agent: ModuleType, repository: Path) -> None:
    areas = agent.group_by_area(agent.read_history(str(repository), None), 0.5)

    assert [(area.name, len(area.commits), area.seconds) for area in areas] == [
        ("project", 2, 0.5),
        ("src", 2, 1.0),
        ("docs", 1, 1.5),
    ]


def test_the_notes_count_what_changed_and_thank_nobody_in_the_first_version(
    agent: ModuleType, repository: Path
) -> None:
    notes = agent.assemble("Notes", agent.read_history(str(repository), None), ["## src"])

    assert notes == "# Notes\n\n3 commits, +5 -0 lines.\n\n## src\n"


def test_the_change_that_the_demo_makes_thanks_the_authors(
    agent: ModuleType, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "CREDIT_AUTHORS", True)

    notes = agent.assemble("Notes", agent.read_history(str(repository), None), [])

    assert notes.endswith("\n\nThanks to Ana, Bob.\n")


def test_a_history_without_commits_makes_notes_that_say_so(agent: ModuleType) -> None:
    assert agent.assemble("Notes", [], []) == "# Notes\n\nNothing has changed.\n"
