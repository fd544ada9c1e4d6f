"""`kitaru init`: what it copies, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kitaru import scaffolding
from kitaru_registry.errors import KitaruBackendError, KitaruConflictError, KitaruNotFoundError


@pytest.mark.parametrize("template", scaffolding.templates())
def test_init_copies_a_project_that_has_all_it_needs(template: str, tmp_path: Path) -> None:
    written = scaffolding.init(tmp_path / "new", template=template)

    assert {"README.md", "kitaru.toml"} < set(written)
    assert sorted(written) == sorted(path.name for path in (tmp_path / "new").iterdir())


def test_there_are_the_templates_of_the_documentation() -> None:
    assert scaffolding.templates() == ["release_notes", "review"]


def test_looking_templates_up_imports_none_of_them() -> None:
    program = (
        "import sys; from kitaru import scaffolding; scaffolding.templates(); print('kitaru_templates' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "False"


def test_init_overwrites_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "review.py").write_text("mine\n")

    with pytest.raises(KitaruConflictError, match=r"review\.py"):
        scaffolding.init(tmp_path, template="review")

    assert [path.name for path in tmp_path.iterdir()] == ["review.py"]
    assert (tmp_path / "review.py").read_text() == "mine\n"


def test_init_keeps_what_else_is_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine\n")

    scaffolding.init(tmp_path, template="review")

    assert (tmp_path / "notes.txt").read_text() == "mine\n"


def test_an_unknown_template_is_told_the_nearest_and_all(tmp_path: Path) -> None:
    with pytest.raises(KitaruNotFoundError, match=r"release_notes, review.*Did you mean review\?") as caught:
        scaffolding.init(tmp_path / "new", template="reveiw")

    assert caught.value.hint == "kitaru init --template review"
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_named_and_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(KitaruBackendError, match="nothing was kept"):
        scaffolding.init(tmp_path / "file" / "new", template="review")
