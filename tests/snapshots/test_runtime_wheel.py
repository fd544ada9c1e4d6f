"""The runtime that goes into every snapshot holds what a child imports, and nothing that it does not."""

from __future__ import annotations

import ast
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from kitaru_registry.snapshots.wheels import RUNTIME_FACES, kitaru_wheel, runtime_files

PACKAGES = ("kitaru", "kitaru_runner", "kitaru_registry", "kitaru_cli")
NEEDS_THE_REGISTRY = {"kitaru/artifacts.py", "kitaru/handle.py", "kitaru/invoking.py"}
"""Of these, what asks a registry is never reached in a child, for there is no client to ask."""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of the installed tree."""
    folder = tmp_path / "installed"
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        shutil.copytree(Path(spec.origin).parent, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def digest_made_by(installed: Path) -> str:
    code = "import kitaru_registry as k; from kitaru_registry.snapshots.wheels import kitaru_wheel as w;"
    command = [sys.executable, "-c", f"{code} print(k.__file__, w().digest)"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert made[0] == str(installed / "kitaru_registry" / "__init__.py")
    return made[1]


def test_a_change_of_what_no_child_imports_changes_no_snapshot(installed: Path) -> None:
    kept = {*runtime_files(), "kitaru/refusing.py"} - set(RUNTIME_FACES)
    changed = [path for path in installed.rglob("*.py") if path.relative_to(installed).as_posix() not in kept]
    (installed / "kitaru" / "__pycache__").mkdir()
    (installed / "kitaru" / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"left")

    for path in changed:
        path.write_text(f"{path.read_text()}\n# a comment\n")

    rooms = {path.relative_to(installed).parts[1] for path in changed if len(path.relative_to(installed).parts) > 2}
    assert {"snapshots", "executions", "database", "host", "testing", "api"} <= rooms
    assert digest_made_by(installed) == kitaru_wheel().digest


def test_a_change_of_what_a_child_imports_changes_every_snapshot(installed: Path) -> None:
    changed = installed / "kitaru_runner" / "engine" / "core" / "attempt.py"
    changed.write_text(f"{changed.read_text()}\n# a comment\n")

    assert digest_made_by(installed) != kitaru_wheel().digest


def imports_of(path: Path) -> Iterator[str]:
    """Names of our modules that it imports, at its top or in functions; those for annotations alone are none."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in PACKAGES:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in PACKAGES)


def test_a_child_imports_nothing_that_is_not_shipped() -> None:
    files = runtime_files()
    missing = {
        (name, imported)
        for name, path in files.items()
        if name not in NEEDS_THE_REGISTRY
        for imported in imports_of(path)
        if find_module(imported) and not {f"{imported.replace('.', '/')}.py", folder_of(imported)} & files.keys()
    }

    assert missing == set()


def folder_of(module: str) -> str:
    return f"{module.replace('.', '/')}/__init__.py"


def find_module(name: str) -> bool:
    """Whether that is a module, and no name in one."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """What the wheel holds, unpacked."""
    with zipfile.ZipFile(io.BytesIO(kitaru_wheel().content)) as archive:
        archive.extractall(tmp_path / "runtime")
    return tmp_path / "runtime"


def in_a_child(runtime: Path, code: str) -> str:
    """What the code prints, where of ours there is the runtime alone."""
    environment = {**os.environ, "PYTHONPATH": str(runtime)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_each_module_and_each_public_name_of_the_runtime_can_be_imported(runtime: Path) -> None:
    modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in runtime_files()]
    modules = [name for name in modules if not name.endswith("__main__")]
    code = f"""
import importlib, sys
try:
    import pandas
except ImportError:
    sys.modules["pandas"] = None
for name in {modules!r}:
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError as error:
        assert error.name == "pandas", error
import kitaru
for name in kitaru.__all__:
    getattr(kitaru, name)
print({{each.__file__.startswith({str(runtime)!r}) for name, each in sys.modules.items() if name.startswith("kitaru")}})
"""
    assert in_a_child(runtime, code) == "{True}"


def test_a_client_in_a_child_refuses_when_it_is_used(runtime: Path) -> None:
    code = """
from kitaru import KitaruClient, KitaruContextError, flow

@flow
def echo(x):
    return x

refused = []
for use in (KitaruClient, lambda: echo.run(1), lambda: echo.invoke(x=1), lambda: echo.replay("0" * 8)):
    try:
        use()
    except KitaruContextError as error:
        refused.append(error.message)
print(len(refused), *set(refused))
"""
    assert in_a_child(runtime, code) == "4 a deployed flow's process has no access to the registry"
