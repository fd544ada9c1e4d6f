"""Packages that have no wheel: local folders, source archives, commits."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from local_index import Index, runtime_index, write_source
from uv import find_uv_bin

from kitaru_registry.errors import KitaruDeployError
from kitaru_registry.snapshots.lock import resolve
from kitaru_registry.snapshots.packages import Lock, LockedWheel
from kitaru_registry.snapshots.wheels import fetch_wheels, kitaru_wheel
from kitaru_registry.stores.layout import OciLayout

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
Resolve = Callable[..., Lock]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    index = runtime_index(tmp_path / "index")
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    return index


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "flow.py").write_text("x = 1\n")
    return root


@pytest.fixture
def resolved(root: Path, tmp_path: Path, index: Index) -> Resolve:
    def resolve_project(*, cache: str = "cache", folder: Path = root) -> Lock:
        return resolve(
            folder,
            entry=Path("flow.py"),
            requirements=None,
            python=MINOR,
            kitaru_wheel=kitaru_wheel(),
            previous=None,
            upgrade=False,
            cache=tmp_path / cache,
            tools=tmp_path / "tools",
        )

    return resolve_project


def the_wheel(name: str, lock: Lock) -> LockedWheel:
    return next(wheel for wheel in lock.wheels if wheel.name == name)


def names_in(wheel: LockedWheel) -> set[str]:
    assert wheel.path is not None
    with zipfile.ZipFile(wheel.path) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("requirement", ["./local", "-e ./local", "mylocal @ file://{root}/local"])
def test_a_local_package_becomes_a_wheel(requirement: str, resolved: Resolve, root: Path) -> None:
    write_source(root / "local", "mylocal", "1.0")
    (root / "requirements.txt").write_text(requirement.format(root=root) + "\n")

    wheel = the_wheel("mylocal", resolved())

    assert (wheel.version, wheel.filename, wheel.url) == ("1.0", "mylocal-1.0-py3-none-any.whl", None)
    assert "mylocal.py" in names_in(wheel)


def test_an_editable_source_of_a_pyproject_becomes_a_wheel(resolved: Resolve, root: Path) -> None:
    write_source(root / "local", "mylocal", "1.0")
    (root / "pyproject.toml").write_text(
        '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["mylocal"]\n'
        '[tool.uv.sources]\nmylocal = { path = "local", editable = true }\n'
    )

    assert the_wheel("mylocal", resolved()).version == "1.0"


@pytest.mark.parametrize("requirement", [".", "-e ."])
def test_the_root_project_is_never_a_wheel_but_what_it_needs_is(
    requirement: str, resolved: Resolve, root: Path, index: Index
) -> None:
    index.add("lib", "1.0")
    write_source(root, "rootproject", "1.0")
    content = (root / "pyproject.toml").read_text()
    (root / "pyproject.toml").write_text(content.replace("[build-system]", 'dependencies = ["lib"]\n[build-system]'))
    (root / "requirements.txt").write_text(f"{requirement}\n")

    assert {wheel.name for wheel in resolved().wheels} == {"cloudpickle", "kitaru", "lib", "pydantic"}


def test_a_local_package_is_the_same_wheel_from_another_clone_and_home(
    resolved: Resolve, root: Path, tmp_path: Path
) -> None:
    for place in (root, tmp_path / "elsewhere"):
        write_source(place / "local", "mylocal", "1.0")
        (place / "flow.py").write_text("x = 1\n")
        (place / "requirements.txt").write_text("./local\n")
    (tmp_path / "elsewhere" / "local" / "mylocal.py").chmod(0o600)

    other = resolved(cache="other-cache", folder=tmp_path / "elsewhere")

    assert other.text == resolved().text


def test_what_earlier_builds_left_behind_is_in_no_wheel(resolved: Resolve, root: Path) -> None:
    write_source(root / "local", "mylocal", "1.0")
    (root / "requirements.txt").write_text("./local\n")
    clean = resolved()
    for left in ("__pycache__/mylocal.cpython-311.pyc", "build/lib/mylocal.py", "mylocal.egg-info/PKG-INFO"):
        (root / "local" / left).parent.mkdir(parents=True, exist_ok=True)
        (root / "local" / left).write_text("left")

    assert resolved(cache="other-cache").text == clean.text


def test_a_build_changes_nothing_in_the_package(resolved: Resolve, root: Path) -> None:
    write_source(root / "local", "mylocal", "1.0")
    (root / "requirements.txt").write_text("./local\n")
    before = sorted(root.rglob("*"))

    resolved()

    assert sorted(root.rglob("*")) == before


def test_a_source_archive_of_a_local_index_is_built(resolved: Resolve, root: Path, index: Index) -> None:
    index.add_source("onlysource", "2.0")
    (root / "requirements.txt").write_text("onlysource\n")

    assert the_wheel("onlysource", resolved()).filename == "onlysource-2.0-py3-none-any.whl"


@pytest.mark.parametrize("setting", ['no-binary-package = ["Two_Forms"]', "package = false"])
def test_what_uvs_settings_have_built_from_source_is_built_although_the_lock_has_wheels(
    setting: str, resolved: Resolve, root: Path, index: Index
) -> None:
    index.add_source("two_forms", "2.0")
    published = index.add("two_forms", "2.0", tag="py2.py3-none-any")
    (root / "pyproject.toml").write_text(
        '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["two-forms"]\n'
        f"[tool.uv]\n{setting}\n"
    )
    subprocess.run([find_uv_bin(), "lock", "-q"], cwd=root, check=True)

    is_built = the_wheel("two-forms", resolved()).filename == "two_forms-2.0-py3-none-any.whl"

    assert published.name == "two_forms-2.0-py2.py3-none-any.whl"
    assert is_built == ("no-binary" in setting)


def test_a_source_archive_of_a_remote_index_is_built(
    resolved: Resolve, root: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add_source("onlysource", "2.0")
    (root / "requirements.txt").write_text("onlysource\n")
    local = resolved()
    with index.served() as server:
        monkeypatch.setenv("UV_DEFAULT_INDEX", server.url)
        remote = resolved(cache="other-cache")

    assert remote.text == local.text


def test_a_commit_is_built(resolved: Resolve, root: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    write_source(repository, "ingit", "3.0")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=repository, check=True)
    (root / "requirements.txt").write_text(f"ingit @ git+file://{repository}\n")

    assert the_wheel("ingit", resolved()).version == "3.0"


def test_a_package_that_cannot_be_built_shows_what_its_build_said(resolved: Resolve, root: Path) -> None:
    write_source(root / "local", "mylocal", "1.0")
    (root / "local" / "backend.py").write_text("raise RuntimeError('no compiler here')\n")
    (root / "requirements.txt").write_text("./local\n")

    with pytest.raises(KitaruDeployError, match="mylocal") as raised:
        resolved()

    assert "no compiler here" in (raised.value.detail or "")


def test_a_login_in_netrc_opens_an_index_and_appears_nowhere(
    resolved: Resolve, root: Path, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add_source("onlysource", "2.0")
    index.add("lib", "1.0")
    (root / "requirements.txt").write_text("onlysource\nlib\n")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    netrc.chmod(0o600)
    store = OciLayout(tmp_path / "layout")
    with index.served(login="me:hunter2") as server:
        monkeypatch.setenv("UV_DEFAULT_INDEX", server.url)
        monkeypatch.setenv("NETRC", str(netrc))
        lock = resolved()
        fetch_wheels(lock, store, python=MINOR, tools=tmp_path / "tools", cache=tmp_path / "cache")

    assert all(store.exists(digest) for digest in lock.digests.values())
    assert "hunter2" not in f"{lock}"
    for file in (tmp_path / "cache").rglob("*"):
        assert file.is_dir() or b"hunter2" not in file.read_bytes()


def test_what_git_ignores_in_a_local_package_is_not_built_into_its_wheel(resolved: Resolve, root: Path) -> None:
    write_source(root / "local", "mylocal", "1.0")
    (root / "requirements.txt").write_text("./local\n")
    (root / ".gitignore").write_text(".env\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    first = resolved()
    (root / "local" / ".env").write_text("TOKEN=hunter2\n")

    assert resolved() == first


def test_a_local_package_that_holds_a_secret_is_refused_unless_allowed(
    root: Path, tmp_path: Path, index: Index
) -> None:
    write_source(root / "local", "mylocal", "1.0")
    (root / "local" / ".env").write_text("TOKEN=hunter2\n")
    (root / "requirements.txt").write_text("./local\n")

    def resolved_with(allow: list[str]) -> Lock:
        return resolve(
            root,
            entry=Path("flow.py"),
            requirements=None,
            python=MINOR,
            kitaru_wheel=kitaru_wheel(),
            previous=None,
            upgrade=False,
            cache=tmp_path / "cache",
            tools=tmp_path / "tools",
            allow=allow,
        )

    with pytest.raises(KitaruDeployError) as raised:
        resolved_with([])

    assert ".env" in f"{raised.value} {raised.value.detail}"
    assert "hunter2" not in f"{raised.value} {raised.value.detail} {raised.value.hint}"
    assert the_wheel("mylocal", resolved_with(["env-file"])).version == "1.0"
