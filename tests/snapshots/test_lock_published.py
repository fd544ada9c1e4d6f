"""The same with packages as the world publishes them; these tests need the public index."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kitaru_registry.home import Home
from kitaru_registry.snapshots.lock import resolve
from kitaru_registry.snapshots.packages import Lock
from kitaru_registry.snapshots.wheels import fetch_wheels, kitaru_wheel
from kitaru_registry.stores.layout import OciLayout
from kitaru_runner.host.environment import Environment, ensure_environment, find_interpreter

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    return root


def locked(root: Path, home: Home) -> Lock:
    return resolve(
        root,
        entry=Path("flow.py"),
        requirements=None,
        python=MINOR,
        kitaru_wheel=kitaru_wheel(),
        previous=None,
        upgrade=False,
        cache=home.cache,
        tools=home.tools,
    )


def installed(lock: Lock, home: Home) -> Environment:
    store = OciLayout(home.layout)
    fetch_wheels(lock, store, python=MINOR, tools=home.tools, cache=home.cache)
    return ensure_environment(
        home, lock=lock.text, wheels=lock.digests, store=store, interpreter=find_interpreter(MINOR)
    )


def output(environment: Environment, code: str) -> list[str]:
    command = [environment.python, "-I", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_a_project_that_pins_older_releases_than_kitaru_needs_runs_on_them(root: Path, home: Home) -> None:
    (root / "requirements.txt").write_text("sqlalchemy<2\ntyper<0.9\nrich<13\n")

    environment = installed(locked(root, home), home)

    code = (
        "import kitaru_registry.errors, pydantic, sqlalchemy; from importlib.metadata import version;"
        "print(*(version(name) for name in ('sqlalchemy', 'typer', 'rich', 'pydantic')))"
    )
    majors = [tuple(int(part) for part in version.split(".")[:2]) for version in output(environment, code)]
    assert majors[0] < (2, 0)
    assert majors[1] < (0, 9)
    assert majors[2] < (13, 0)
    assert majors[3] >= (2, 0)


def test_a_build_by_setuptools_leaves_nothing_in_the_project(root: Path, home: Home) -> None:
    for folder, name in ((root, "dynamic"), (root / "local", "mylocal")):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text("version = '1'\n")
        (folder / "pyproject.toml").write_text(
            f'[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
            f'[project]\nname = "{name}"\ndynamic = ["version", "dependencies"]\n'
            f'[tool.setuptools]\npy-modules = ["{name}"]\n'
            f'[tool.setuptools.dynamic]\nversion = {{ attr = "{name}.version" }}\n'
            'dependencies = { file = "needs.txt" }\n'
        )
    (root / "local" / "needs.txt").write_text("")
    (root / "needs.txt").write_text(f"mylocal @ {(root / 'local').as_uri()}\n")
    before = sorted(root.rglob("*"))

    lock = locked(root, home)

    assert "mylocal-1-py3-none-any.whl" in lock.digests
    assert sorted(root.rglob("*")) == before


def test_wheels_are_fetched_where_no_pip_is_installed(
    root: Path, cold_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)

    lock = locked(root, cold_home)
    environment = installed(lock, cold_home)

    assert output(environment, "import pydantic; print(pydantic.BaseModel.__name__)") == ["BaseModel"]
    assert (cold_home.tools / "pip" / "bin" / "python").exists()
