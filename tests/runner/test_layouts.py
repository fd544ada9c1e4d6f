"""Where imports of a project's own code begin, as its build backend says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kitaru_runner.child.layouts import declared_folders, import_folders
from kitaru_runner.child.loader import module_name

LAYOUTS = {
    "setuptools": '[tool.setuptools]\npackage-dir = { "" = "lib" }',
    "setuptools, one package": '[tool.setuptools]\npackage-dir = { "gen" = "lib/gen" }',
    "setuptools, found": '[tool.setuptools.packages.find]\nwhere = ["lib"]',
    "hatch, sources": '[tool.hatch.build.targets.wheel]\nsources = ["lib"]',
    "hatch, sources that are cut off": '[tool.hatch.build]\nsources = { "lib" = "", "other" = "renamed" }',
    "hatch, packages": '[tool.hatch.build.targets.wheel]\npackages = ["lib/gen"]',
    "poetry": '[tool.poetry]\npackages = [{ include = "gen", from = "lib" }]',
    "pdm": '[tool.pdm.build]\npackage-dir = "lib"',
    "uv": '[tool.uv.build-backend]\nmodule-root = "lib"',
    "maturin": '[tool.maturin]\npython-source = "lib"',
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_the_folder_that_a_backend_is_told_holds_the_packages_is_found(layout: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(layout)

    assert declared_folders(tmp_path) == [tmp_path / "lib"]
    assert module_name(tmp_path, tmp_path / "lib" / "gen" / "flows.py") == "gen.flows"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not TOML at all where",
        '[tool.setuptools]\npackages = ["gen"]',
        '[tool.setuptools]\npackages = 3\n[tool.pdm]\nbuild = "x"\n[tool.hatch.build]\nsources = 1',
        '[tool.setuptools]\npackage-dir = { "" = "src" }',
        '[tool.setuptools.packages.find]\nwhere = [".", "../elsewhere", "/srv", 3]',
        '[project]\nname = "kitaru"\n[tool.hatch.build.targets.wheel]\npackages = ["sdk/kitaru"]',
        "[tool]\nsetuptools = 1",
    ],
)
def test_what_says_nothing_of_the_kind_changes_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)

    assert declared_folders(tmp_path) == []


def test_names_of_modules_stay_what_they_were(tmp_path: Path) -> None:
    (tmp_path / "packages" / "app").mkdir(parents=True)
    (tmp_path / "packages" / "app" / "pyproject.toml").write_text('[project]\nname = "app"\n')

    named = {file: module_name(tmp_path, tmp_path / file) for file in (
        "flow.py", "flows/review.py", "src/app/flow.py", "app/__init__.py", "packages/app/flow.py",
    )}  # fmt: skip

    assert list(named.values()) == ["flow", "flows.review", "app.flow", "app", "packages.app.flow"]


def test_a_project_below_the_root_begins_where_it_would_alone(tmp_path: Path) -> None:
    """A member of a workspace that is deployed from the top: its own code is no wheel, and is imported all the same."""
    member = tmp_path / "packages" / "app"
    file = member / "src" / "app" / "flow.py"
    file.parent.mkdir(parents=True)
    (member / "pyproject.toml").write_text('[project]\nname = "app"\n')

    assert import_folders(tmp_path, file) == [file.parent, member / "src", member, tmp_path]
    assert module_name(tmp_path, file) == "app.flow"


def test_a_module_of_a_declared_folder_is_imported_once(tmp_path: Path) -> None:
    """The entry module and one that imports it by its own name are the same module."""
    for path, text in {
        "pyproject.toml": LAYOUTS["setuptools"],
        "lib/gen/__init__.py": "",
        "lib/gen/other.py": "import gen.flows\n",
        "lib/gen/flows.py": "import gen.other\nprint(__name__)\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    code = "import sys; from pathlib import Path; from kitaru_runner.child.loader import load_module;" + (
        "load_module(Path(sys.argv[1]), Path(sys.argv[1], 'lib/gen/flows.py'))"
    )

    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)

    assert done.stdout == "gen.flows\n"
