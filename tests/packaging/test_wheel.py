"""What the wheel holds, and what importing it costs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import files
from pathlib import Path

import pytest

import kitaru

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"kitaru", "kitaru_cli", "kitaru_registry", "kitaru_runner", "kitaru_templates"}
HEAVY = ("sqlalchemy", "pydantic", "asyncio", "litellm", "boto3", "oras", "git", "typer", "cloudpickle")

needs_wheel = pytest.mark.skipif(
    "KITARU_TEST_WHEEL" not in os.environ, reason="Kitaru is installed from its source folders; make test has the wheel"
)


@needs_wheel
def test_the_tests_run_on_the_installed_wheel_and_not_on_the_source_folders() -> None:
    assert Path(kitaru.__file__).is_relative_to(sys.prefix)


@needs_wheel
def test_the_wheel_holds_the_five_packages_and_nothing_else() -> None:
    tops = {path.parts[0] for path in files("kitaru") or () if not path.parts[0].startswith(("..", "__"))}

    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES


@needs_wheel
@pytest.mark.parametrize(
    ("folder", "package"),
    [(path.parent.name, path.name) for path in sorted(ROOT.glob("[a-z]*/kitaru*")) if path.name in PACKAGES],
)
def test_the_wheel_holds_every_file_of_its_source_folder(folder: str, package: str) -> None:
    source = ROOT / folder
    expected = {
        path.relative_to(source).as_posix()
        for path in (source / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert expected == {
        path.as_posix()
        for path in files("kitaru") or ()
        if path.parts[0] == package and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("package", sorted(PACKAGES - {"kitaru_templates"}))
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert list(ROOT.glob(f"*/{package}/py.typed"))


def test_import_kitaru_loads_nothing_heavy() -> None:
    program = f"import sys, kitaru; print(*[name for name in {HEAVY!r} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


def test_every_public_name_of_the_sdk_can_be_had() -> None:
    program = "import kitaru; [getattr(kitaru, name) for name in kitaru.__all__]; print(len(kitaru.__all__))"

    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 9


def test_the_pinned_test_tools_cover_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    pinned = re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "tests/requirements.txt").read_text(), re.M)

    assert {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in needed} <= set(pinned), "run make lock"


def test_no_file_names_a_package_index_or_carries_a_lock_that_does() -> None:
    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    names = {Path(line).name for line in tracked.stdout.splitlines()}

    assert not names & {"uv.lock", "pylock.toml", "pip.conf", "uv.toml"}
    assert "http" not in (ROOT / "tests/requirements.txt").read_text()


def test_the_actions_of_the_workflow_are_pinned_and_hold_no_rights() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()

    assert "\npermissions: {}\n" in workflow
    for action in re.findall(r"uses: (\S+)", workflow):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
