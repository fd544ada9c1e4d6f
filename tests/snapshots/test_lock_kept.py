"""When a deploy resolves anew, and when it takes the answer that it has."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from local_index import Index, runtime_index, write_source

from kitaru_registry.snapshots.lock import resolve
from kitaru_registry.snapshots.packages import Lock
from kitaru_registry.snapshots.wheels import kitaru_wheel

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
Resolve = Callable[..., Lock]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    index = runtime_index(tmp_path / "index")
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    index.add("lib", "1.0")
    return index


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "flow.py").write_text("x = 1\n")
    (root / "requirements.txt").write_text("lib\n")
    return root


@pytest.fixture
def said() -> list[str]:
    """What resolutions reported: nothing where no tool ran."""
    return []


@pytest.fixture
def resolved(root: Path, tmp_path: Path, index: Index, said: list[str]) -> Resolve:
    def resolve_project(*, previous: Lock | None = None, upgrade: bool = False, cache: str = "cache") -> Lock:
        said.clear()
        return resolve(
            root,
            entry=Path("flow.py"),
            requirements=None,
            python=MINOR,
            kitaru_wheel=kitaru_wheel(),
            previous=previous.text if previous else None,
            upgrade=upgrade,
            cache=tmp_path / cache,
            tools=tmp_path / "tools",
            progress=said.append,
        )

    return resolve_project


def version_of(name: str, lock: Lock) -> str:
    return next(wheel.version for wheel in lock.wheels if wheel.name == name)


def test_unchanged_dependency_files_run_no_tool(
    resolved: Resolve, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = resolved()
    monkeypatch.setenv("PATH", "/nowhere")

    again, after_deploy = resolved(), resolved(previous=first)

    assert again == after_deploy == first
    assert said == []


def test_a_changed_code_file_runs_no_tool(resolved: Resolve, root: Path, said: list[str]) -> None:
    first = resolved()
    (root / "flow.py").write_text("x = 2\n")

    assert resolved(previous=first) == first
    assert said == []


def test_a_changed_dependency_file_is_resolved_anew(resolved: Resolve, root: Path, index: Index) -> None:
    first = resolved()
    index.add("more", "1.0")
    (root / "requirements.txt").write_text("lib\nmore\n")

    assert {wheel.name for wheel in resolved(previous=first).wheels} >= {"lib", "more"}


def test_a_changed_file_that_requirements_include_is_resolved_anew(resolved: Resolve, root: Path, index: Index) -> None:
    index.add("lib", "2.0")
    (root / "requirements.txt").write_text("lib\n-c constraints.txt\n")
    (root / "constraints.txt").write_text("lib<2\n")
    first = resolved()
    (root / "constraints.txt").write_text("lib<3\n")

    assert (version_of("lib", first), version_of("lib", resolved())) == ("1.0", "2.0")


def test_pins_of_the_version_before_stay_beside_newer_releases(resolved: Resolve, root: Path, index: Index) -> None:
    first = resolved()
    index.add("lib", "2.0")
    index.add("more", "1.0")
    (root / "requirements.txt").write_text("lib\nmore\n")

    assert version_of("lib", resolved(previous=first)) == "1.0"
    assert version_of("lib", resolved(previous=first, cache="another home")) == "1.0"


def test_a_pin_that_no_longer_fits_is_resolved_anew(resolved: Resolve, root: Path, index: Index) -> None:
    first = resolved()
    index.add("lib", "2.0")
    (root / "requirements.txt").write_text("lib>1\n")

    assert version_of("lib", resolved(previous=first)) == "2.0"


def test_upgrade_takes_newer_releases_and_later_deploys_keep_them(
    resolved: Resolve, index: Index, said: list[str]
) -> None:
    first = resolved()
    index.add("lib", "2.0")

    upgraded = resolved(previous=first, upgrade=True)

    assert version_of("lib", upgraded) == "2.0"
    assert resolved(previous=upgraded) == upgraded
    assert said == []


def test_flows_that_were_locked_at_different_times_each_keep_their_own(
    resolved: Resolve, index: Index, said: list[str]
) -> None:
    old = resolved()
    index.add("lib", "2.0")
    new = resolved(upgrade=True)

    for lock in (old, new, old, new):
        assert resolved(previous=lock) == lock
        assert said == []


def test_an_edited_local_package_is_built_anew(resolved: Resolve, root: Path, said: list[str]) -> None:
    write_source(root / "local", "mylocal", "1.0")
    (root / "requirements.txt").write_text("./local\n")
    first = resolved()
    (root / "local" / "mylocal.py").write_text("edited = True\n")

    edited = resolved(previous=first)

    assert version_of("mylocal", edited) == "1.0"
    assert edited.text != first.text
    assert "building mylocal" in said


def test_a_local_wheel_that_was_removed_is_built_again(resolved: Resolve, root: Path) -> None:
    write_source(root / "local", "mylocal", "1.0")
    (root / "requirements.txt").write_text("./local\n")
    first = resolved()
    built = next(wheel.path for wheel in first.wheels if wheel.name == "mylocal")
    assert built is not None
    built.unlink()
    built.parent.rmdir()

    again = resolved(previous=first)

    assert again == first
    assert built.is_file()


def test_a_damaged_entry_of_the_cache_is_resolved_anew(resolved: Resolve, tmp_path: Path) -> None:
    first = resolved()
    for entry in (tmp_path / "cache" / "locks").iterdir():
        entry.write_text('{"text": ')

    assert resolved() == first
