"""A lock by PEP 751, whoever wrote it: what uv would install from it is what is picked, or it is refused by name."""

from __future__ import annotations

import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from kitaru_registry.errors import KitaruDeployError
from kitaru_registry.snapshots.selection import Archive, Folder, Published, Remote, later_format, select

PYTHON = "3.11.7"
SHA = 'hashes = { sha256 = "' + "a" * 64 + '" }'
FILES = "https://files.example"


def wheel(name: str, *, version: str = "1.0", more: str = "") -> str:
    """One package of a lock, with `more` lines."""
    address = f"{FILES}/{name}-{version}-py3-none-any.whl"
    return f'[[packages]]\nname = "{name}"\nversion = "{version}"\n{more}\nwheels = [{{ url = "{address}", {SHA} }}]\n'


def picked(text: str, *, head: str = "", python: str = PYTHON, base: Path = Path()) -> dict[str, object]:
    """Name to artefact."""
    lock = tomllib.loads(f'lock-version = "1.0"\ncreated-by = "t"\n{head}\n{text}')
    return {package.name: package.artefact for package in select(lock, base=base, python=python, label="pylock.toml")}


def refused(text: str, *, head: str = "", python: str = PYTHON) -> str:
    with pytest.raises(KitaruDeployError) as raised:
        picked(text, head=head, python=python)
    assert raised.value.hint
    return str(raised.value)


def test_packages_of_the_default_groups_are_picked_and_of_others_not() -> None:
    """PDM puts every package into the group `default`, and says that this one is meant."""
    text = (
        wheel("six", more="""marker = "'default' in dependency_groups" """)
        + wheel("pytest", more="""marker = "'dev' in dependency_groups" """)
        + wheel("shared", more="""marker = "'dev' in dependency_groups or 'default' in dependency_groups" """)
    )
    head = 'dependency-groups = ["default", "dev"]\ndefault-groups = ["default"]'

    assert set(picked(text, head=head)) == {"six", "shared"}
    assert set(picked(text, head='dependency-groups = ["default", "dev"]')) == set()


def test_packages_of_extras_are_left_out_and_those_for_their_absence_picked() -> None:
    text = wheel("http2", more="""marker = "'http2' in extras" """) + wheel(
        "plain", more="""marker = "'http2' not in extras" """
    )

    assert set(picked(text, head='extras = ["http2"]')) == {"plain"}


def test_markers_see_this_python_and_machine() -> None:
    text = (
        wheel("old", more="""marker = "python_version < '3.11'" """)
        + wheel("here", more=f"""marker = "sys_platform == '{sys.platform}'" """)
        + wheel("windows", more="""marker = "sys_platform == 'win32'" """)
        + wheel("late", more="""marker = "python_full_version >= '3.11.8'" """)
    )

    assert set(picked(text)) == {"here"}


@pytest.mark.parametrize("requires", [">=3.12", "<3.11", ">=3.11.8", "!=3.11.*"])
def test_a_package_that_does_not_admit_this_python_is_an_error_and_not_left_out(requires: str) -> None:
    said = refused(wheel("foo", more=f'requires-python = "{requires}"'))

    assert "foo" in said
    assert requires in said


@pytest.mark.parametrize("requires", [">=3.11.4", ">=3.11,<3.12", "==3.11.*", "~=3.11", "!=3.11.0"])
def test_a_package_that_admits_this_very_release_of_python_is_picked(requires: str) -> None:
    assert set(picked(wheel("foo", more=f'requires-python = "{requires}"'))) == {"foo"}


def test_a_package_that_is_not_meant_here_may_need_another_python() -> None:
    more = """marker = "python_version >= '3.12'"\nrequires-python = ">=3.12" """

    assert picked(wheel("foo", more=more)) == {}


@pytest.mark.parametrize("requires", [">=3.12", ">=3.11.8"])
def test_a_lock_that_does_not_admit_this_python_is_refused(requires: str) -> None:
    said = refused(wheel("foo"), head=f'requires-python = "{requires}"')

    assert "pylock.toml" in said
    assert requires in said


def test_a_lock_for_other_machines_is_refused_and_one_for_several_is_read() -> None:
    assert "win32" in refused(wheel("foo"), head="""environments = ["sys_platform == 'win32'"]""")
    both = f"""environments = ["sys_platform == 'win32'", "sys_platform == '{sys.platform}'"]"""
    assert set(picked(wheel("foo"), head=both)) == {"foo"}


def test_a_lock_of_a_later_major_format_is_refused_and_of_a_minor_one_read() -> None:
    lock = tomllib.loads('lock-version = "2.0"\n' + wheel("foo"))
    with pytest.raises(KitaruDeployError, match=r"lock-version 2\.0"):
        select(lock, base=Path(), python=PYTHON)

    later = tomllib.loads('lock-version = "1.1"\nnew-key = 1\n' + wheel("foo"))
    assert [package.name for package in select(later, base=Path(), python=PYTHON)] == ["foo"]
    assert later_format(later) == "1.1"
    assert later_format(tomllib.loads('lock-version = "1.0"')) is None


def test_what_others_put_into_a_lock_for_themselves_is_ignored() -> None:
    more = (
        'attestation-identities = [{ kind = "GitHub", repository = "a/b" }]\n'
        f'index = "{FILES}/simple"\ndependencies = [{{ name = "bar" }}]\ntool = {{ pdm = {{ strategy = [] }} }}'
    )

    assert set(picked(wheel("foo", more=more), head='[tool.pdm]\nhashes = { sha256 = "0" }')) == {"foo"}


@pytest.mark.parametrize(
    ("told", "address", "filename"),
    [
        ("pyyaml-6.0.2-py3-none-any.whl", "PyYAML-6.0.2-py3-none-any.whl", "PyYAML-6.0.2-py3-none-any.whl"),
        ("ruamel_yaml-1-py3-none-any.whl", "ruamel.yaml-1-py3-none-any.whl", "ruamel.yaml-1-py3-none-any.whl"),
        ("foo-1.0-py3-none-any.whl", "0a1b2c", "foo-1.0-py3-none-any.whl"),
        ("foo-1.0-py3-none-any.whl", "download?id=7", "foo-1.0-py3-none-any.whl"),
        (None, "foo-1.0%2Bcpu-py3-none-any.whl", "foo-1.0+cpu-py3-none-any.whl"),
        (None, "foo-1.0-py3-none-any.whl#sha256=00", "foo-1.0-py3-none-any.whl"),
    ],
)
def test_a_wheel_keeps_the_name_that_it_was_published_under(told: str | None, address: str, filename: str) -> None:
    name = f'name = "{told}", ' if told else ""
    text = f'[[packages]]\nname = "foo"\nwheels = [{{ {name}url = "{FILES}/{address}", {SHA} }}]\n'

    artefact = picked(text)["foo"]

    assert isinstance(artefact, Published)
    assert artefact.filename == filename


def test_a_path_is_relative_to_the_lock_and_comes_before_an_address(tmp_path: Path) -> None:
    (tmp_path / "foo-1.0-py3-none-any.whl").write_bytes(b"")
    both = f'{{ path = "NAME-1.0-py3-none-any.whl", url = "{FILES}/NAME-1.0-py3-none-any.whl", {SHA} }}'
    text = "".join(
        f'[[packages]]\nname = "{name}"\nwheels = [{both.replace("NAME", name)}]\n' for name in ("foo", "gone")
    )

    found = picked(text, base=tmp_path)

    assert isinstance(found["foo"], Published)
    assert isinstance(found["gone"], Published)
    assert (found["foo"].path, found["foo"].url) == (tmp_path / "foo-1.0-py3-none-any.whl", None)
    assert (found["gone"].path, found["gone"].url) == (None, f"{FILES}/gone-1.0-py3-none-any.whl")


def test_sources_of_every_kind_are_read(tmp_path: Path) -> None:
    text = (
        f'[[packages]]\nname = "sdist"\nversion = "1"\nsdist = {{ url = "{FILES}/sdist-1.tar.gz", {SHA} }}\n'
        f'[[packages]]\nname = "local-sdist"\nsdist = {{ path = "local-1.tar.gz", {SHA} }}\n'
        f'[[packages]]\nname = "whole"\narchive = {{ url = "{FILES}/whole-1-py3-none-any.whl", {SHA} }}\n'
        f'[[packages]]\nname = "part"\narchive = {{ path = "mono.zip", subdirectory = "part", {SHA} }}\n'
        f'[[packages]]\nname = "commit"\nvcs = {{ type = "git", url = "{FILES}/r.git", commit-id = "c0", '
        'subdirectory = "sub" }\n'
        '[[packages]]\nname = "folder"\ndirectory = { path = "libs", editable = true, subdirectory = "folder" }\n'
    )

    found = picked(text, base=tmp_path)

    hashed = f"--hash=sha256:{'a' * 64}"
    assert found == {
        "sdist": Remote(f"sdist @ {FILES}/sdist-1.tar.gz {hashed}"),
        "local-sdist": Archive(tmp_path / "local-1.tar.gz", {"sha256": "a" * 64}),
        "whole": Published("whole-1-py3-none-any.whl", {"sha256": "a" * 64}, f"{FILES}/whole-1-py3-none-any.whl", None),
        "part": Remote(
            f"part @ {(tmp_path / 'mono.zip').as_uri()}#subdirectory=part {hashed}",
            Archive(tmp_path / "mono.zip", {"sha256": "a" * 64}),
        ),
        "commit": Remote(f"git+{FILES}/r.git@c0#egg=commit&subdirectory=sub"),
        "folder": Folder(tmp_path / "libs" / "folder"),
    }


def test_an_archive_with_a_weak_hash_alone_is_refused_by_name() -> None:
    text = f'[[packages]]\nname = "foo"\nsdist = {{ url = "{FILES}/foo-1.tar.gz", hashes = {{ md5 = "00" }} }}\n'

    assert refused(text) == "of foo-1.tar.gz the lock tells md5 alone, which proves too little"


def test_a_package_with_neither_a_fitting_wheel_nor_a_source_is_refused_by_name() -> None:
    text = f'[[packages]]\nname = "foo"\nwheels = [{{ url = "{FILES}/foo-1-cp39-cp39-win32.whl", {SHA} }}]\n'

    assert "foo" in refused(text)


def test_two_entries_of_one_package_that_both_apply_are_refused_and_forks_are_told_apart() -> None:
    machine = sysconfig.get_platform().rpartition("-")[2]
    forks = wheel("foo", more=f"""marker = "platform_machine == '{machine}'" """) + wheel(
        "foo", version="2.0", more=f"""marker = "platform_machine != '{machine}'" """
    )

    assert "two foo" in refused(wheel("foo") + wheel("Foo", version="2.0"))
    assert set(picked(forks)) == {"foo"}


@pytest.mark.parametrize(
    ("text", "head"),
    [
        (wheel("foo", more='marker = "nonsense ==="'), ""),
        (wheel("foo", more="""marker = "no_such_variable == 'x'" """), ""),
        (wheel("foo", more='requires-python = "newest"'), ""),
        (wheel("foo", more="marker = 3"), ""),
        ('[[packages]]\nversion = "1"\n', ""),
        ('[[packages]]\nname = "foo"\nwheels = [{ hashes = { sha256 = "a" } }]\n', ""),
        ('[[packages]]\nname = "foo"\nvcs = { type = "git", url = "https://files.example/r" }\n', ""),
        ("", 'packages = "none"'),
        ("", 'requires-python = "=>3"'),
        ("", 'environments = ["so so"]'),
        ("", "default-groups = 3"),
    ],
)
def test_what_is_no_lock_is_one_clear_error(text: str, head: str) -> None:
    assert "pylock.toml" in refused(text, head=head)


def test_a_lock_version_that_is_none_is_one_clear_error() -> None:
    with pytest.raises(KitaruDeployError, match="not a lock by PEP 751"):
        select({"lock-version": "one"}, base=Path(), python=PYTHON)
