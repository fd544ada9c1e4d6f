"""Which wheel of a release is packed: uv's order, whatever `packaging` says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from packaging.tags import compatible_tags, cpython_tags, platform_tags

from kitaru_registry.snapshots import selection
from kitaru_registry.snapshots.selection import Published, select
from kitaru_registry.snapshots.wheel_order import platforms_in_order, tags_in_order

GLIBC = ["linux_x86_64", *(f"manylinux_2_{minor}_x86_64" for minor in range(5, 37)), "manylinux2014_x86_64"]
MUSL = ["musllinux_1_1_x86_64", "musllinux_1_2_x86_64", "linux_x86_64"]


def chosen(*tags: str, python: str = "3.11") -> str:
    """What follows name and version in the file name of the wheel that is taken."""
    wheels = [{"url": f"https://files.example/foo-1.0-{tag}.whl", "hashes": {"sha256": "0" * 64}} for tag in tags]
    package: dict[str, Any] = {"name": "foo", "version": "1.0", "wheels": wheels}
    artefact = select({"lock-version": "1.0", "packages": [package]}, base=Path(), python=python)[0].artefact
    assert isinstance(artefact, Published)
    return artefact.filename.removeprefix("foo-1.0-").removesuffix(".whl")


@pytest.fixture
def glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "platform_tags", lambda: iter(GLIBC))


# What uv 0.13.9 chose of each, left to right; the first is the better one.
@pytest.mark.parametrize(
    "better_first",
    [
        ("cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-linux_x86_64"),
        ("cp311-cp311-manylinux_2_28_x86_64", "cp311-cp311-manylinux_2_17_x86_64"),
        ("cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", "cp311-cp311-manylinux_2_12_x86_64"),
        ("cp311-cp311-linux_x86_64", "cp311-abi3-manylinux_2_28_x86_64"),
        ("cp311-abi3-manylinux_2_17_x86_64", "cp39-abi3-manylinux_2_28_x86_64"),
        ("cp311-none-manylinux_2_17_x86_64", "cp310-abi3-manylinux_2_17_x86_64"),
        ("cp37-abi3-linux_x86_64", "py3-none-manylinux_2_17_x86_64"),
        ("py311-none-any", "py3-none-any"),
        ("py3-none-any", "py310-none-any"),
        ("cp311-none-any", "py311-none-any"),
        ("2-py3-none-any", "1-py3-none-any"),
        ("10-py3-none-any", "9-py3-none-any"),
        ("1b-py3-none-any", "1a-py3-none-any"),
        ("1-py3-none-any", "py3-none-any"),
        ("py2.py3-none-any", "cp311-cp311-musllinux_1_2_x86_64"),
        ("py3-none-any", "cp312-cp312-manylinux_2_17_x86_64"),
        ("py3-none-any", "cp311-cp311-manylinux_2_99_x86_64"),
    ],
)
@pytest.mark.usefixtures("glibc")
def test_the_better_wheel_is_taken_wherever_it_stands_in_the_list(better_first: tuple[str, str]) -> None:
    assert chosen(*better_first) == chosen(*reversed(better_first)) == better_first[0]


@pytest.mark.usefixtures("glibc")
def test_of_wheels_that_are_equally_good_the_first_is_taken() -> None:
    assert chosen("py3.py2-none-any", "py2.py3-none-any") == "py3.py2-none-any"


def test_beside_musl_its_own_platform_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "platform_tags", lambda: iter(MUSL))

    assert chosen("cp311-cp311-musllinux_1_2_x86_64", "cp311-cp311-linux_x86_64") == "cp311-cp311-linux_x86_64"
    assert chosen("cp311-cp311-musllinux_1_1_x86_64", "cp311-cp311-musllinux_1_2_x86_64").endswith("1_2_x86_64")


def test_the_order_in_which_packaging_names_platforms_does_not_count() -> None:
    """Release 25 names `linux_x86_64` last, 26.3 first: the same folder must not become another snapshot."""
    assert platforms_in_order(GLIBC) == platforms_in_order(reversed(GLIBC))
    assert platforms_in_order(GLIBC)[-1] == "linux_x86_64"


@pytest.mark.parametrize("minor", [11, 12, 13, 14])
def test_what_was_packed_before_the_order_was_ours_is_packed_still(minor: int) -> None:
    """But for `linux_*` wheels, which no public index takes, the order is that of `packaging` so far."""
    before = [*cpython_tags((3, minor), [f"cp3{minor}"]), *compatible_tags((3, minor), f"cp3{minor}")]

    ours = list(tags_in_order((3, minor), platform_tags()))

    assert [tag for tag in ours if "-linux_" not in tag] == [
        str(tag) for tag in before if "linux_" not in tag.platform[:6]
    ]
    assert set(ours) == {str(tag) for tag in before}
