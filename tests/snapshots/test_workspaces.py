"""A member of a uv workspace is locked by the workspace's uv.lock, from wherever it is deployed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from local_index import Index, runtime_index
from uv import find_uv_bin

from kitaru_registry.errors import KitaruDeployError
from kitaru_registry.snapshots.files import collect
from kitaru_registry.snapshots.lock import resolve
from kitaru_registry.snapshots.packages import Lock
from kitaru_registry.snapshots.sources import find_source, project_folder
from kitaru_registry.snapshots.wheels import kitaru_wheel
from kitaru_registry.snapshots.workspaces import workspace_of

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
RUNTIME = {"cloudpickle": "3.1.0", "kitaru": kitaru_wheel().filename.split("-")[1], "pydantic": "2.9.0"}
Resolve = Callable[..., Lock]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    index = runtime_index(tmp_path / "index")
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    for version in ("1.0", "2.0"):
        index.add("lib", version)
    index.add("of_top", "1.0")
    index.add("of_tools", "1.0")
    return index


@pytest.fixture
def top(tmp_path: Path, index: Index) -> Path:
    """A workspace of `mono`, `packages/app` (lib, and its sibling) and `packages/tools`, locked with lib 1.0."""
    top = tmp_path / "mono"
    project(top, "mono", ["of_top"], more='[tool.uv.workspace]\nmembers = ["packages/*"]\nexclude = ["packages/out"]\n')
    project(top / "packages" / "app", "app", ["lib", "tools"], more="[tool.uv.sources]\ntools = { workspace = true }\n")
    project(top / "packages" / "tools", "tools", ["of_tools"], more=BACKEND)
    (top / "packages" / "tools" / "backend.py").write_text(BACKEND_CODE)
    (top / "packages" / "tools" / "tools.py").write_text("x = 1\n")
    (top / "packages" / "app" / "src" / "app").mkdir(parents=True)
    (top / "packages" / "app" / "src" / "app" / "flow.py").write_text("x = 1\n")
    subprocess.run([find_uv_bin(), "lock", "-q", "--upgrade-package", "lib==1.0"], cwd=top, check=True)
    return top


BACKEND = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BACKEND_CODE = """
import zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{wheel_directory}/tools-1-py3-none-any.whl", "w") as wheel:
        wheel.write("tools.py")
        wheel.writestr("tools-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: tools\\nVersion: 1\\n")
        wheel.writestr("tools-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("tools-1.dist-info/RECORD", "")
    return "tools-1-py3-none-any.whl"
"""


def project(folder: Path, name: str, needs: list[str], *, more: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = {needs}\n{more}'
    )


@pytest.fixture
def versions(tmp_path: Path) -> Callable[..., dict[str, str]]:
    def resolve_in(root: Path, *, entry: str = "flow.py", requirements: str | None = None) -> dict[str, str]:
        lock = resolve(
            root,
            entry=Path(entry),
            requirements=requirements,
            python=MINOR,
            kitaru_wheel=kitaru_wheel(),
            previous=None,
            upgrade=False,
            cache=tmp_path / "cache",
            tools=tmp_path / "tools",
        )
        return {wheel.name: wheel.version for wheel in lock.wheels}

    return resolve_in


APP = {"lib": "1.0", "tools": "1", "of-tools": "1.0"}


@pytest.mark.parametrize(
    ("root", "entry", "requirements"),
    [
        ("packages/app", "src/app/flow.py", None),
        ("packages/app", "src/app/flow.py", "../../uv.lock"),
        ("packages/app", "src/app/flow.py", "pyproject.toml"),
        (".", "packages/app/src/app/flow.py", None),
        (".", "packages/app/src/app/flow.py", "uv.lock"),
        (".", "flow.py", "packages/app/pyproject.toml"),
        ("packages", "app/src/app/flow.py", None),
    ],
)
def test_a_member_gets_what_the_lock_of_its_workspace_says_of_it(
    root: str, entry: str, requirements: str | None, top: Path, versions: Callable[..., dict[str, str]]
) -> None:
    """Its siblings are wheels, it is none itself, and the workspace's own dependencies are not its own."""
    assert versions(top / root, entry=entry, requirements=requirements) == RUNTIME | APP


def test_the_top_of_a_workspace_gets_its_own_packages(top: Path, versions: Callable[..., dict[str, str]]) -> None:
    assert versions(top) == RUNTIME | {"of-top": "1.0"}


@pytest.mark.parametrize(
    ("root", "entry", "requirements", "folder"),
    [
        ("packages/app", "src/app/flow.py", None, ""),
        (".", "packages/app/src/app/flow.py", None, "packages/app"),
        (".", "flow.py", "packages/app/pyproject.toml", "packages/app"),
        (".", "flow.py", None, ""),
    ],
)
def test_the_member_that_is_deployed_is_there_as_a_distribution(
    root: str, entry: str, requirements: str | None, folder: str, top: Path
) -> None:
    place = top / root
    found = project_folder(place, entry=place / entry, requirements=requirements)
    assert found == place / folder

    collection = collect(place, git=None, project=folder)

    name = "mono" if found == top else "app"
    assert [path for path in collection.generated if path.endswith("METADATA")] == [f"{name}-1.dist-info/METADATA"]


def test_a_lock_that_does_not_know_the_member_is_refused_with_the_command_that_helps(
    top: Path, versions: Callable[..., dict[str, str]]
) -> None:
    project(top / "packages" / "late", "late", ["lib"])

    with pytest.raises(KitaruDeployError) as raised:
        versions(top / "packages" / "late")

    assert "../../uv.lock" in str(raised.value)
    assert raised.value.hint == "uv lock"


@pytest.mark.parametrize("name", ["out", "elsewhere"])
def test_a_folder_that_the_workspace_does_not_take_in_is_a_project_of_its_own(
    name: str, top: Path, versions: Callable[..., dict[str, str]]
) -> None:
    folder = top / ("packages" if name == "out" else ".") / name
    project(folder, name, ["lib"])

    assert versions(folder) == RUNTIME | {"lib": "2.0"}


def test_a_workspace_without_a_lock_locks_nothing(top: Path) -> None:
    (top / "uv.lock").unlink()

    found = find_source(top / "packages" / "app", entry=top / "packages" / "app" / "flow.py", requirements=None)

    assert found.kind == "pyproject"


def test_a_project_below_a_folder_that_names_no_dependencies_has_its_own(
    tmp_path: Path, index: Index, versions: Callable[..., dict[str, str]]
) -> None:
    """A repository of several projects with one `kitaru.toml` above them."""
    project(tmp_path / "repository" / "service", "service", ["lib"])
    subprocess.run([find_uv_bin(), "lock", "-q"], cwd=tmp_path / "repository" / "service", check=True)
    index.add("lib", "3.0")

    assert versions(tmp_path / "repository", entry="service/flow.py") == RUNTIME | {"lib": "2.0"}


@pytest.mark.parametrize(
    ("member", "patterns", "exclude", "is_one"),
    [
        ("packages/app", ["packages/*"], [], True),
        ("packages/app", ["./packages/app/"], [], True),
        ("packages/deep/app", ["packages/*"], [], False),
        ("packages/deep/app", ["packages/**"], [], True),
        ("packages/deep/app", ["**/app"], [], True),
        ("libs/b", ["lib*/[ab]"], [], True),
        ("libs/c", ["lib*/[ab]"], [], False),
        ("packages/app", ["packages/*"], ["packages/a*"], False),
        ("packages/app", [], [], False),
    ],
)
def test_members_are_told_by_uvs_patterns(
    member: str, patterns: list[str], exclude: list[str], is_one: bool, tmp_path: Path
) -> None:
    (tmp_path / "uv.lock").write_text("")
    (tmp_path / "pyproject.toml").write_text(f"[tool.uv.workspace]\nmembers = {patterns}\nexclude = {exclude}\n")

    assert workspace_of(tmp_path / member) == (tmp_path if is_one else None)
