"""`make demo` keeps its promises: it checks each of them itself, and ends at the first that does not hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_tells_its_story_to_the_end_on_another_repository(tmp_path: Path) -> None:
    repository = tmp_path / "shop"
    history_in(repository, folders=("cart", "checkout", "search", "docs"))

    told = subprocess.run(
        [sys.executable, ROOT / "docs/demo/demo.py", "--repository", repository, "--folder", tmp_path / "demo"],
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert told.returncode == 0, told.stdout + told.stderr
    assert "$ kill -9 " in told.stdout
    assert "What happened" in told.stdout
    for name in ("v1.md", "v2.md", "v4.md"):
        assert (tmp_path / "demo" / name).read_text().startswith("# Release notes")
    assert not (tmp_path / "demo" / "v3.md").exists(), "it was rejected"


def test_a_repository_without_a_history_is_named(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, ROOT / "docs/demo/demo.py", "--repository", tmp_path, "--folder", tmp_path / "demo"],
        capture_output=True,
        text=True,
    )

    assert told.returncode == 1
    assert f"{tmp_path} has no git history" in told.stderr
    assert not (tmp_path / "demo").exists()


def history_in(repository: Path, *, folders: tuple[str, ...]) -> None:
    """A git repository with one commit for each folder."""
    repository.mkdir()
    git(repository, "init", "--quiet", "--initial-branch", "main")
    for folder in folders:
        (repository / folder).mkdir()
        (repository / folder / "notes.txt").write_text(f"about the {folder}\n")
        git(repository, "add", "--all")
        git(repository, "commit", "--quiet", "--message", f"Begin the {folder}")


def git(folder: Path, *arguments: str) -> None:
    person = {f"GIT_{role}_{what}": "Ana" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["git", *arguments], cwd=folder, env=os.environ | person, check=True, capture_output=True)
