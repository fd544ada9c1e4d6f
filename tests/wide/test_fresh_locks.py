"""What uv, pip, PDM and Poetry lock today of the 40 most used packages is deployed as uv would install it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from foreign_locks import OF_THIS_MACHINE, PLATFORMS, TOOLS, TOP_40, chosen_by_uv, install_tools, lock_with
from packaging.markers import default_environment
from uv import find_uv_bin

from kitaru_registry.home import Home
from kitaru_registry.snapshots import selection
from kitaru_registry.snapshots.lock import resolve
from kitaru_registry.snapshots.packages import Lock
from kitaru_registry.snapshots.selection import Published, normal_name, select
from kitaru_registry.snapshots.wheels import fetch_wheels, kitaru_wheel
from kitaru_registry.stores.layout import OciLayout
from kitaru_runner.host.environment import ensure_environment, find_interpreter

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
RUNTIME = {"cloudpickle", "kitaru"}


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_tools(tmp_path_factory.mktemp("tools") / "env")


@pytest.fixture(scope="session")
def locks(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> dict[str, Path]:
    """Made when first asked for."""
    return Made(tmp_path_factory, programs)


class Made(dict[str, Path]):
    def __init__(self, folders: pytest.TempPathFactory, programs: Path) -> None:
        super().__init__()
        self._folders, self._programs = folders, programs

    def __missing__(self, tool: str) -> Path:
        self[tool] = lock_with(tool, self._folders.mktemp(tool), self._programs)
        return self[tool]


@pytest.mark.parametrize("tool", TOOLS)
def test_the_wheels_that_uv_installs_of_a_tools_lock_are_those_that_are_picked(
    tool: str, locks: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "platform_tags", lambda: iter(PLATFORMS))
    monkeypatch.setattr(selection, "default_environment", lambda: {**default_environment(), **OF_THIS_MACHINE})
    pylock = locks[tool]
    lock = tomllib.loads(pylock.read_text())
    # pip locks for the Python that it runs in.
    for minor in (MINOR,) if tool == "pip" else ("3.11", "3.12", "3.13"):
        picked = {package.name: package.artefact for package in select(lock, base=pylock.parent, python=f"{minor}.9")}
        ours = {name: wheel.filename for name, wheel in picked.items() if isinstance(wheel, Published)}
        assert ours == chosen_by_uv(pylock, lock, minor=minor)


@pytest.mark.parametrize("file", ["uv.lock", "pylock.toml", "requirements.txt"])
def test_a_project_of_the_most_used_packages_is_locked_fetched_and_installed(
    file: str, locks: dict[str, Path], home: Home, tmp_path: Path
) -> None:
    source = locks["uv"].parent
    root = tmp_path / "project"
    root.mkdir()
    for name in ("pyproject.toml", file if file != "requirements.txt" else "needs.txt"):
        (root / name.replace("needs", "requirements")).write_bytes((source / name).read_bytes())
    interpreter = find_interpreter(MINOR)

    lock = resolve(
        root,
        entry=Path("flow.py"),
        requirements=file,
        python=interpreter.version,
        kitaru_wheel=kitaru_wheel(),
        previous=None,
        upgrade=False,
        cache=home.cache,
        tools=home.tools,
    )
    store = OciLayout(home.layout)
    fetch_wheels(lock, store, python=MINOR, tools=home.tools, cache=home.cache)
    made = ensure_environment(home, lock=lock.text, wheels=lock.digests, store=store, interpreter=interpreter)

    assert {normal_name(need.partition("==")[0]) for need in TOP_40} | RUNTIME <= {wheel.name for wheel in lock.wheels}
    assert installed(made.python) == {(wheel.name, wheel.version) for wheel in lock.wheels}
    assert_whole(made.python, lock)


def installed(python: Path) -> set[tuple[str, str]]:
    command = [find_uv_bin(), "pip", "list", "-q", "--python", python, "--format", "freeze"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {(normal_name(name), version) for name, _, version in (line.partition("==") for line in lines)}


def assert_whole(python: Path, lock: Lock) -> None:
    checked = subprocess.run([find_uv_bin(), "pip", "check", "--python", python], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    code = "import yaml, sqlalchemy, django, jwt, ruamel.yaml, zope.event, markupsafe, pandas, cryptography"
    subprocess.run([python, "-I", "-c", code], check=True)
    assert all(wheel.digest for wheel in lock.wheels)
