"""`kitaru init`: from nothing to a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Kitaru


def test_init_writes_a_project_and_says_what_comes_next(kitaru: Kitaru, project: Path) -> None:
    made = kitaru("init", "agent", "--template", "review")

    assert (made.code, made.err) == (0, "")
    assert (project / "agent" / "kitaru.toml").is_file()
    assert made.out.splitlines()[0] == "Wrote to agent:"
    assert made.out.splitlines()[-2:] == ["  cd agent", "  kitaru deploy"]


def test_init_lists_every_file_that_it_wrote(kitaru: Kitaru, project: Path) -> None:
    made = kitaru("init", "-o", "json").item

    written = [path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()]
    assert sorted(made["files"]) == sorted(written)
    assert made["folder"] == str(project)


def test_init_overwrites_nothing(kitaru: Kitaru, project: Path) -> None:
    (project / "kitaru.toml").write_text("mine")

    refused = kitaru("init", "-o", "json")

    assert (refused.code, "kitaru.toml" in refused.error["message"]) == (4, True)
    assert [path.name for path in project.iterdir()] == ["kitaru.toml"]
    assert (project / "kitaru.toml").read_text() == "mine"


def test_an_unknown_template_is_refused_with_those_there_are(kitaru: Kitaru, project: Path) -> None:
    names = [found["template"] for found in kitaru("init", "--list", "-o", "json").items]

    refused = kitaru("init", "--template", "reveiw", "-o", "json")

    assert refused.code == 3
    assert all(name in refused.error["message"] for name in names)
    assert refused.error["hint"] == "kitaru init --template review"
    assert list(project.iterdir()) == []
