"""A lock holds what is in this folder now: not what another one had under the same words, nor what was here before."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from local_index import Index, runtime_index, wheel_bytes, write_source
from uv import find_uv_bin

from kitaru_registry.canonical import sha256_of
from kitaru_registry.errors import KitaruDeployError
from kitaru_registry.snapshots.lock import resolve
from kitaru_registry.snapshots.packages import Lock, LockedWheel
from kitaru_registry.snapshots.sharing import may_share
from kitaru_registry.snapshots.sources import find_source
from kitaru_registry.snapshots.wheels import fetch_wheels, kitaru_wheel
from kitaru_registry.stores.layout import OciLayout

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
Resolve = Callable[..., Lock]
FOO = "foo-1.0-py3-none-any.whl"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    index = runtime_index(tmp_path / "index")
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    return index


@pytest.fixture
def resolved(tmp_path: Path, index: Index) -> Resolve:
    def resolve_in(root: Path, *, previous: Lock | None = None, home: str = "home") -> Lock:
        return resolve(
            root,
            entry=Path("flow.py"),
            requirements=None,
            python=MINOR,
            kitaru_wheel=kitaru_wheel(),
            previous=previous.text if previous else None,
            upgrade=False,
            cache=tmp_path / home / "cache",
            tools=tmp_path / "tools",
        )

    return resolve_in


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return folder(tmp_path / "one")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return folder(tmp_path / "two")


def folder(path: Path) -> Path:
    (path / "wheels").mkdir(parents=True)
    (path / "flow.py").write_text("x = 1\n")
    return path


def put_wheel(root: Path, text: str) -> Path:
    """`foo` 1.0, saying `text`, in the folder's wheels."""
    path = root / "wheels" / FOO
    path.write_bytes(wheel_bytes("foo", "1.0", files={"foo.py": f"V = {text!r}\n"}))
    return path


def foo(lock: Lock) -> LockedWheel:
    return next(wheel for wheel in lock.wheels if wheel.name == "foo")


def pyproject(root: Path, *, sources: str = "") -> None:
    (root / "pyproject.toml").write_text(
        '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["foo"]\n' + sources
    )


@pytest.mark.parametrize("words", [f"foo @ ./wheels/{FOO}\n", f"./wheels/{FOO}\n", "--find-links wheels\nfoo\n"])
def test_two_folders_with_the_same_requirements_each_get_their_own_wheel(
    words: str, one: Path, two: Path, resolved: Resolve
) -> None:
    for root in (one, two):
        put_wheel(root, root.name)
        (root / "requirements.txt").write_text(words)

    locks = [resolved(root) for root in (one, two, one)]

    assert [foo(lock).digest for lock in locks] == [
        sha256_of((root / "wheels" / FOO).read_bytes()) for root in (one, two, one)
    ]


def test_two_worktrees_with_the_same_local_package_each_get_their_own(one: Path, two: Path, resolved: Resolve) -> None:
    for root in (one, two):
        write_source(root / "foo", "foo", "1.0", body=f"V = {root.name!r}\n")
        pyproject(root, sources='[tool.uv.sources]\nfoo = { path = "foo" }\n')

    first, second = resolved(one), resolved(two)

    assert foo(first).digest != foo(second).digest
    assert foo(resolved(one, previous=first)).digest == foo(first).digest


def test_two_scripts_with_the_same_block_each_get_what_is_beside_them(one: Path, tmp_path: Path, index: Index) -> None:
    block = '# /// script\n# dependencies = ["foo"]\n# [tool.uv.sources]\n# foo = { path = "foo" }\n# ///\n'
    digests = []
    for name in ("a", "b"):
        write_source(one / name / "foo", "foo", "1.0", body=f"V = {name!r}\n")
        (one / name / "flow.py").write_text(block)
        lock = resolve(
            one,
            entry=Path(name, "flow.py"),
            requirements=None,
            python=MINOR,
            kitaru_wheel=kitaru_wheel(),
            previous=None,
            upgrade=False,
            cache=tmp_path / "cache",
            tools=tmp_path / "tools",
        )
        digests.append(foo(lock).digest)

    assert digests[0] != digests[1]


def test_a_part_of_a_local_archive_with_other_bytes_than_locked_is_refused(one: Path, resolved: Resolve) -> None:
    write_source(one / "mono" / "part", "foo", "1.0")
    archive = shutil.make_archive(str(one / "mono"), "zip", one, "mono")
    sha = sha256_of(Path(archive).read_bytes()).removeprefix("sha256:")
    (one / "pylock.toml").write_text(
        'lock-version = "1.0"\ncreated-by = "t"\n[[packages]]\nname = "foo"\nversion = "1.0"\n'
        f'archive = {{ path = "mono.zip", subdirectory = "part", hashes = {{ sha256 = "{sha}" }} }}\n'
    )
    first = resolved(one)
    (one / "mono" / "part" / "foo.py").write_text("other = 1\n")
    shutil.make_archive(str(one / "mono"), "zip", one, "mono")

    with pytest.raises(KitaruDeployError, match=r"other bytes than pylock\.toml has for foo"):
        resolved(one, previous=first)


def test_two_folders_with_the_same_pylock_each_get_their_own(one: Path, two: Path, resolved: Resolve) -> None:
    for root in (one, two):
        write_source(root / "foo", "foo", "1.0", body=f"V = {root.name!r}\n")
        (root / "pylock.toml").write_text(
            'lock-version = "1.0"\ncreated-by = "t"\n[[packages]]\nname = "foo"\ndirectory = { path = "foo" }\n'
        )

    assert foo(resolved(one)).digest != foo(resolved(two)).digest


def test_what_a_projects_build_says_it_needs_is_asked_again_when_its_files_change(
    one: Path, two: Path, resolved: Resolve, index: Index
) -> None:
    """A `dynamic` list of dependencies is in files that no key can name."""
    for name in ("old", "new"):
        index.add(name, "1.0")
    for root, needs in ((one, "old"), (two, "new")):
        (root / "pyproject.toml").write_text(
            '[project]\nname = "p"\nversion = "1"\ndynamic = ["dependencies"]\n'
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        )
        (root / "needs.txt").write_text(needs)
        (root / "backend.py").write_text(
            "import os\n\ndef prepare_metadata_for_build_wheel(directory, config_settings=None):\n"
            "    os.mkdir(f'{directory}/p-1.dist-info')\n"
            "    with open(f'{directory}/p-1.dist-info/METADATA', 'w') as file:\n"
            "        needs = open('needs.txt').read()\n"
            "        file.write(f'Metadata-Version: 2.1\\nName: p\\nVersion: 1\\nRequires-Dist: {needs}\\n')\n"
            "    open(f'{directory}/p-1.dist-info/WHEEL', 'w').write('Wheel-Version: 1.0\\nTag: py3-none-any\\n')\n"
            "    return 'p-1.dist-info'\n\ndef build_wheel(*arguments, **more):\n    raise NotImplementedError\n"
        )

    names = [{wheel.name for wheel in resolved(root).wheels} for root in (one, two)]
    (one / "needs.txt").write_text("new")

    assert ["old" in each for each in names] == [True, False]
    assert "new" in {wheel.name for wheel in resolved(one).wheels}


@pytest.mark.parametrize("words", [f"foo @ ./wheels/{FOO}\n", "--find-links wheels\nfoo\n", "foo @ {uri}\n"])
def test_a_local_wheel_that_was_built_again_under_its_version_is_taken(
    words: str, one: Path, resolved: Resolve
) -> None:
    path = put_wheel(one, "old")
    (one / "requirements.txt").write_text(words.format(uri=path.as_uri()))
    first = resolved(one)
    put_wheel(one, "new")

    second = resolved(one, previous=first)

    assert foo(second).digest == sha256_of(path.read_bytes()) != foo(first).digest


def test_a_wheel_that_uv_lock_pins_and_that_was_built_again_is_refused_with_the_command_that_helps(
    one: Path, resolved: Resolve, tmp_path: Path
) -> None:
    put_wheel(one, "old")
    pyproject(one, sources=f'[tool.uv.sources]\nfoo = {{ path = "wheels/{FOO}" }}\n')
    subprocess.run([find_uv_bin(), "lock", "-q"], cwd=one, check=True)
    first = resolved(one)
    store = OciLayout(tmp_path / "layout")
    fetch_wheels(first, store, python=MINOR, tools=tmp_path / "tools", cache=tmp_path / "home" / "cache")
    put_wheel(one, "new")

    # Neither the kept answer nor the old bytes in a store make it pass.
    for home in ("home", "another home"):
        with pytest.raises(KitaruDeployError, match=r"other bytes than uv\.lock has for foo") as raised:
            resolved(one, previous=first, home=home)
        assert raised.value.hint == "uv lock --upgrade-package foo"
    subprocess.run([find_uv_bin(), *str(raised.value.hint).split()[1:], "-q"], cwd=one, check=True)
    assert foo(resolved(one, previous=first)).digest == sha256_of((one / "wheels" / FOO).read_bytes())


def test_a_wheel_that_a_pylock_pins_and_that_was_built_again_or_is_gone_is_refused(
    one: Path, resolved: Resolve
) -> None:
    path = put_wheel(one, "old")
    sha = sha256_of(path.read_bytes()).removeprefix("sha256:")
    (one / "pylock.toml").write_text(
        'lock-version = "1.0"\ncreated-by = "t"\n[[packages]]\nname = "foo"\nversion = "1.0"\n'
        f'wheels = [{{ path = "wheels/{FOO}", hashes = {{ sha256 = "{sha}" }} }}]\n'
    )
    first = resolved(one)
    put_wheel(one, "new")
    with pytest.raises(KitaruDeployError, match=r"other bytes than pylock\.toml"):
        resolved(one, previous=first)
    path.unlink()
    with pytest.raises(KitaruDeployError, match="cannot be read"):
        resolved(one, previous=first)


def test_a_local_source_archive_with_other_bytes_than_locked_is_refused(
    one: Path, resolved: Resolve, index: Index
) -> None:
    archive = index.add_source("foo", "1.0")
    (one / "foo-1.0.tar.gz").write_bytes(archive.read_bytes())
    (one / "pylock.toml").write_text(
        'lock-version = "1.0"\ncreated-by = "t"\n[[packages]]\nname = "foo"\nversion = "1.0"\n'
        f'archive = {{ path = "foo-1.0.tar.gz", hashes = {{ sha256 = "{"0" * 64}" }} }}\n'
    )

    with pytest.raises(KitaruDeployError, match=r"other bytes than pylock\.toml has for foo"):
        resolved(one)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "requirements.txt",
            "# ours\nhttpx[http2]>=0.27 ; python_version > '3'\nrich==13.0 --hash=sha256:00 \\\n  --hash=sha256:11\n",
        ),
        (
            "requirements.txt",
            "-c constraints.txt\n--index-url https://files.example/simple\nlib @ https://files.example/lib.whl\n",
        ),
        (
            "pyproject.toml",
            '[project]\nname = "p"\nversion = "1"\ndependencies = ["httpx"]\n[tool.ruff]\nsrc = ["lib"]\n',
        ),
        (
            "pylock.toml",
            'lock-version = "1.0"\n[[packages]]\nname = "a"\nwheels = [{ url = "https://files.example/a" }]\n',
        ),
    ],
)
def test_an_answer_is_shared_among_folders_whose_files_name_no_place(name: str, text: str, one: Path) -> None:
    (one / name).write_text(text)

    assert may_share(
        find_source(one, entry=one / "flow.py", requirements=None), {"UV_INDEX": "a=https://files.example"}
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("requirements.txt", "./local\n"),
        ("requirements.txt", "-e local/\n"),
        ("requirements.txt", "wheels/lib.whl\n"),
        ("requirements.txt", "lib-1-py3-none-any.whl\n"),
        ("requirements.txt", "lib @ file:///srv/lib.whl\n"),
        ("requirements.txt", "lib @ ./lib\n"),
        ("requirements.txt", "-f wheels\nlib\n"),
        ("requirements.txt", "--extra-index-url simple\nlib\n"),
        ("pyproject.toml", '[project]\nname = "p"\nversion = "1"\n[tool.uv]\nfind-links = ["wheels"]\n'),
        ("pyproject.toml", '[project]\nname = "p"\nversion = "1"\ndynamic = ["dependencies"]\n'),
        ("pyproject.toml", '[build-system]\nrequires = ["setuptools"]\n'),
        ("pylock.toml", 'lock-version = "1.0"\n[[packages]]\nname = "a"\ndirectory = { path = "a" }\n'),
        ("pylock.toml", "lock-version = '1.0'\n[[packages]]\nname = 'a'\nwheels = [{ path='a.whl' }]\n"),
    ],
)
def test_an_answer_stays_in_its_folder_where_the_files_name_a_place(name: str, text: str, one: Path) -> None:
    (one / name).write_text(text)

    assert not may_share(find_source(one, entry=one / "flow.py", requirements=None), {})


@pytest.mark.parametrize("setting", [{"UV_FIND_LINKS": "wheels"}, {"UV_INDEX": "own=./simple"}])
def test_an_answer_stays_in_its_folder_where_the_environment_names_a_place(setting: dict[str, str], one: Path) -> None:
    (one / "requirements.txt").write_text("lib\n")

    assert not may_share(find_source(one, entry=one / "flow.py", requirements=None), setting)
