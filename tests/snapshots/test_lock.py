"""What a lock holds, and where it comes from."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from local_index import Index, runtime_index, wheel_bytes, write_source
from uv import find_uv_bin

from kitaru_registry.canonical import sha256_of
from kitaru_registry.errors import KitaruBackendError, KitaruDeployError, KitaruNotFoundError
from kitaru_registry.snapshots.lock import resolve
from kitaru_registry.snapshots.packages import Lock
from kitaru_registry.snapshots.wheels import fetch_wheels, kitaru_wheel
from kitaru_registry.stores.layout import OciLayout

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
NATIVE = f"cp{sys.version_info.major}{sys.version_info.minor}"
RUNTIME = {"cloudpickle", "kitaru", "pydantic"}
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
    def resolve_project(
        *, requirements: str | None = None, python: str = MINOR, previous: bytes | None = None, upgrade: bool = False
    ) -> Lock:
        return resolve(
            root,
            entry=Path("flow.py"),
            requirements=requirements,
            python=python,
            kitaru_wheel=kitaru_wheel(),
            previous=previous,
            upgrade=upgrade,
            cache=tmp_path / "cache",
            tools=tmp_path / "tools",
        )

    return resolve_project


def versions(lock: Lock) -> dict[str, str]:
    return {wheel.name: wheel.version for wheel in lock.wheels}


def test_a_project_without_dependency_files_gets_the_runtime_alone(resolved: Resolve) -> None:
    lock = resolved()

    assert set(versions(lock)) == RUNTIME
    assert lock.source == "no dependency file"


def test_the_lock_names_wheels_by_relative_path_and_sha256_and_no_index(resolved: Resolve, index: Index) -> None:
    lock = resolved()

    packages = tomllib.loads(lock.text.decode())["packages"]
    assert [package["name"] for package in packages] == sorted(RUNTIME)
    for package, wheel in zip(packages, lock.wheels, strict=True):
        assert package["wheels"] == [
            {"path": f"wheels/{wheel.filename}", "hashes": {"sha256": wheel.digest.removeprefix("sha256:")}}
        ]
    assert b"://" not in lock.text
    assert str(index.folder).encode() not in lock.text


def test_the_same_wheels_are_the_same_lock_from_another_index_and_home(
    resolved: Resolve, index: Index, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = resolved()
    with index.served() as server:
        monkeypatch.setenv("UV_DEFAULT_INDEX", server.url)
        second = resolve(
            root,
            entry=Path("flow.py"),
            requirements=None,
            python=MINOR,
            kitaru_wheel=kitaru_wheel(),
            previous=None,
            upgrade=False,
            cache=tmp_path / "other-cache",
            tools=tmp_path / "tools",
        )

    assert second.text == first.text
    assert second.wheels != first.wheels


@pytest.mark.parametrize("name", ["PEP 723", "uv.lock", "pylock.toml", "requirements.txt", "pyproject.toml"])
def test_the_first_source_that_is_there_is_used(name: str, resolved: Resolve, index: Index, root: Path) -> None:
    order = ["PEP 723", "uv.lock", "pylock.toml", "requirements.txt", "pyproject.toml"]
    for number, source in enumerate(order):
        index.add(f"from_{number}", "1.0")
        if order.index(name) <= number:
            write_dependency_file(root, source, f"from_{number}")

    lock = resolved()

    assert set(versions(lock)) == {*RUNTIME, f"from-{order.index(name)}"}


def write_dependency_file(root: Path, source: str, package: str) -> None:
    project = f'[project]\nname = "project"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["{package}"]\n'
    if source == "PEP 723":
        (root / "flow.py").write_text(f'# /// script\n# dependencies = ["{package}"]\n# ///\nx = 1\n')
    elif source == "uv.lock":
        (root / "pyproject.toml").write_text(project)
        subprocess.run([find_uv_bin(), "lock", "-q"], cwd=root, check=True)
    elif source == "pylock.toml":
        compile_pylock(root, package)
    elif source == "requirements.txt":
        (root / "requirements.txt").write_text(f"{package}\n")
    elif not (root / "pyproject.toml").exists():
        (root / "pyproject.toml").write_text(project)


def compile_pylock(root: Path, *requirements: str) -> None:
    command = [find_uv_bin(), "pip", "compile", "-q", "-", "--format", "pylock.toml", "-o", "pylock.toml"]
    subprocess.run(
        [*command, "--python-version", MINOR], cwd=root, input="\n".join(requirements), text=True, check=True
    )


def test_the_file_that_kitaru_toml_names_comes_before_all(resolved: Resolve, index: Index, root: Path) -> None:
    index.add("named", "1.0")
    write_dependency_file(root, "PEP 723", "not-there")
    (root / "deps").mkdir()
    (root / "deps" / "flow.txt").write_text("named\n")

    assert "named" in versions(resolved(requirements="deps/flow.txt"))


def test_a_named_file_that_is_not_there_is_not_found(resolved: Resolve) -> None:
    with pytest.raises(KitaruNotFoundError, match=r"deps\.txt"):
        resolved(requirements="deps.txt")


def test_a_pyproject_that_holds_only_settings_of_tools_names_no_dependencies(resolved: Resolve, root: Path) -> None:
    (root / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")

    assert set(versions(resolved())) == RUNTIME


def test_pins_that_clash_with_kitarus_own_dependencies_are_kept(resolved: Resolve, index: Index, root: Path) -> None:
    for name, version in (("sqlalchemy", "1.4.0"), ("typer", "0.8.0"), ("rich", "12.0.0")):
        index.add(name, version)
    (root / "requirements.txt").write_text("sqlalchemy<2\ntyper<0.9\nrich<13\nkitaru>=0.1\n")

    lock = resolved()

    assert versions(lock) | {"sqlalchemy": "1.4.0", "typer": "0.8.0", "rich": "12.0.0"} == versions(lock)
    assert {wheel.digest for wheel in lock.wheels if wheel.name == "kitaru"} == {kitaru_wheel().digest}


def test_kitaru_of_an_index_and_what_only_it_needed_are_dropped_from_a_uv_lock(
    resolved: Resolve, index: Index, root: Path
) -> None:
    index.add("kitaru", "9.0", requires=["only_for_kitaru", "shared"])
    index.add("only_for_kitaru", "1.0")
    index.add("shared", "1.0")
    (root / "pyproject.toml").write_text(
        '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["kitaru", "shared"]\n'
    )
    subprocess.run([find_uv_bin(), "lock", "-q"], cwd=root, check=True)

    lock = resolved()

    assert set(versions(lock)) == {*RUNTIME, "shared"}
    assert versions(lock)["kitaru"] == kitaru_wheel().filename.split("-")[1]
    assert len(lock.warnings) == 1
    assert "kitaru" in lock.warnings[0]


def test_a_ready_lock_is_kept_to_the_letter_beside_newer_releases(resolved: Resolve, index: Index, root: Path) -> None:
    index.add("lib", "1.0")
    compile_pylock(root, "lib")
    index.add("lib", "2.0")

    assert versions(resolved(upgrade=True))["lib"] == "1.0"


def test_a_uv_lock_that_is_out_of_date_is_refused_with_uvs_explanation(
    resolved: Resolve, index: Index, root: Path
) -> None:
    index.add("lib", "1.0")
    index.add("more", "1.0")
    write_dependency_file(root, "uv.lock", "lib")
    content = (root / "pyproject.toml").read_text()
    (root / "pyproject.toml").write_text(content.replace('"lib"', '"lib", "more"'))

    with pytest.raises(KitaruDeployError) as raised:
        resolved()

    assert "uv lock" in (raised.value.detail or "")


def test_packages_for_other_platforms_and_pythons_are_left_out(resolved: Resolve, index: Index, root: Path) -> None:
    for name in ("for_windows", "for_old", "for_all"):
        index.add(name, "1.0")
    (root / "pyproject.toml").write_text(
        '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["for_all", '
        "\"for_windows; sys_platform == 'win32'\", \"for_old; python_version < '3.11'\"]\n"
    )
    subprocess.run([find_uv_bin(), "lock", "-q"], cwd=root, check=True)

    assert set(versions(resolved())) == {*RUNTIME, "for-all"}


def test_the_wheel_that_fits_the_minor_best_is_locked(resolved: Resolve, index: Index, root: Path) -> None:
    machine = sysconfig.get_platform().replace("-", "_")
    for tag in ("py3-none-any", f"cp311-abi3-{machine}", f"{NATIVE}-{NATIVE}-{machine}", f"cp310-cp310-{machine}"):
        index.add("native", "1.0", tag=tag)
    write_dependency_file(root, "uv.lock", "native")

    lock = resolved()

    assert f"native-1.0-{NATIVE}-{NATIVE}-{machine}.whl" in lock.digests


def test_a_package_without_a_fitting_wheel_or_source_is_refused_by_name(
    resolved: Resolve, index: Index, root: Path
) -> None:
    index.add("native", "1.0", tag="cp39-cp39-win_amd64")
    (root / "requirements.txt").write_text("native\n")

    with pytest.raises(KitaruDeployError) as raised:
        resolved()

    assert "native" in f"{raised.value} {raised.value.detail}"


def test_what_cannot_be_resolved_shows_uvs_explanation(resolved: Resolve, index: Index, root: Path) -> None:
    index.add("lib", "1.0", requires=["pydantic<2"])
    (root / "requirements.txt").write_text("lib\n")

    with pytest.raises(KitaruDeployError, match=r"requirements\.txt") as raised:
        resolved()

    assert "pydantic" in (raised.value.detail or "")
    assert raised.value.hint


def test_a_python_that_the_project_does_not_admit_is_refused(resolved: Resolve, root: Path) -> None:
    (root / "pyproject.toml").write_text('[project]\nname = "p"\nversion = "1"\nrequires-python = "<3.11"\n')

    with pytest.raises(KitaruDeployError, match=rf"<3\.11.*{re.escape(MINOR)}"):
        resolved()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("requirements.txt", "--index-url https://user:hunter2@packages.example/simple\n"),
        ("requirements.txt", "-r more.txt\n"),
        (
            "pyproject.toml",
            '[project]\nname = "p"\n[[tool.uv.index]]\nurl = "https://hunter2@packages.example/simple"\n',
        ),
        ("pylock.toml", 'lock-version = "1.0"\n# https://user:hunter2@packages.example/lib.whl\n'),
    ],
)
def test_credentials_in_a_url_are_refused_and_never_shown(
    name: str, content: str, resolved: Resolve, root: Path
) -> None:
    (root / "more.txt").write_text("lib @ https://user:hunter2@packages.example/lib-1-py3-none-any.whl\n")
    (root / name).write_text(content)

    with pytest.raises(KitaruDeployError) as raised:
        resolved()

    assert "packages.example" in str(raised.value)
    assert "hunter2" not in f"{raised.value} {raised.value.hint} {raised.value.detail}"


def test_variables_in_a_url_and_logins_of_ssh_are_no_credentials(root: Path, resolved: Resolve) -> None:
    (root / "requirements.txt").write_text(
        "# https://${USER}:${TOKEN}@packages.example/simple git+ssh://git@host.example/repository\n"
    )

    assert set(versions(resolved())) == RUNTIME


def test_pinned_hashes_are_compared_before_anything_is_downloaded(resolved: Resolve, index: Index, root: Path) -> None:
    index.add("lib", "1.0")
    (root / "requirements.txt").write_text(f"lib==1.0 \\\n    --hash=sha256:{'1' * 64}\n")

    with pytest.raises(KitaruDeployError, match=r"lib-1\.0-py3-none-any\.whl"):
        resolved()


@pytest.mark.parametrize("source", ["uv.lock", "script", "pylock.toml", "requirements.txt"])
def test_wheels_that_were_published_under_other_spellings_are_locked_and_fetched_under_those(
    source: str, resolved: Resolve, index: Index, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock of uv's has a name of uv's own beside the address, and an index gives the file by its address."""
    published = ("PyYAML-6.0.2-py3-none-any.whl", "ruamel.yaml-0.18.6-py3-none-any.whl", "Django-4.2-py3-none-any.whl")
    for filename in published:
        name, version = filename.split("-")[:2]
        index.publish(name.lower().replace(".", "-"), filename, wheel_bytes(name, version))
    project = 'requires-python = ">=3.11"\ndependencies = ["pyyaml", "ruamel.yaml", "Django==4.2.0"]\n'
    store = OciLayout(tmp_path / "layout")
    with index.served() as server:
        monkeypatch.setenv("UV_DEFAULT_INDEX", server.url)
        if source == "uv.lock":
            (root / "pyproject.toml").write_text(f'[project]\nname = "p"\nversion = "1"\n{project}')
            subprocess.run([find_uv_bin(), "lock", "-q"], cwd=root, check=True)
        elif source == "script":
            block = "".join(f"# {line}\n" for line in project.splitlines())
            (root / "flow.py").write_text(f"# /// script\n{block}# ///\nx = 1\n")
            subprocess.run([find_uv_bin(), "lock", "-q", "--script", "flow.py"], cwd=root, check=True)
        elif source == "pylock.toml":
            compile_pylock(root, "pyyaml", "ruamel.yaml", "Django==4.2.0")
        else:
            (root / "requirements.txt").write_text("pyyaml\nruamel.yaml\nDjango==4.2.0\n")
        lock = resolved()
        fetch_wheels(lock, store, python=MINOR, tools=tmp_path / "tools", cache=tmp_path / "cache")

    assert set(published) < set(lock.digests)
    assert all(store.exists(digest) for digest in lock.digests.values())


@pytest.mark.parametrize("kind", ["sha512", "sha384", "blake2b"])
def test_a_pylock_may_tell_another_hash_than_sha256(
    kind: str, resolved: Resolve, index: Index, root: Path, tmp_path: Path
) -> None:
    """It is compared, and the lock of the snapshot has our own sha256."""
    path = index.add("lib", "1.0")
    good = hashlib.new(kind, path.read_bytes()).hexdigest()
    bad = hashlib.new(kind, b"other").hexdigest()
    store = OciLayout(tmp_path / "layout")
    with index.served() as server:
        places = {"url": f"{server.files_url}/{path.name}", "path": str(path)}
        for place, address in places.items():
            if (kind, place) == ("blake2b", "url"):
                continue  # pip checks no blake2b
            lock = resolved_pylock(resolved, root, f'{place} = "{address}", hashes = {{ {kind} = "{good}" }}')
            fetch_wheels(lock, store, python=MINOR, tools=tmp_path / "tools", cache=tmp_path / "cache")
            assert lock.digests[path.name] == sha256_of(path.read_bytes())
            with pytest.raises(KitaruDeployError):
                resolved_pylock(resolved, root, f'{place} = "{address}", hashes = {{ {kind} = "{bad}" }}')


def test_a_wheel_at_an_address_of_another_form_is_refused_and_at_a_path_of_one_taken(
    resolved: Resolve, index: Index, root: Path, tmp_path: Path
) -> None:
    """PEP 751 has `name` for files whose place does not tell it."""
    content = index.add("lib", "1.0").read_bytes()
    (root / "0a1b").write_bytes(content)
    named = f'name = "lib-1.0-py3-none-any.whl", hashes = {{ sha256 = "{hashlib.sha256(content).hexdigest()}" }}'
    store = OciLayout(tmp_path / "layout")

    with pytest.raises(KitaruDeployError, match=r"pylock\.toml has lib-1\.0-py3-none-any\.whl at an address"):
        resolved_pylock(resolved, root, f'url = "https://files.example/0a1b", {named}')
    lock = resolved_pylock(resolved, root, f'path = "0a1b", {named}')
    fetch_wheels(lock, store, python=MINOR, tools=tmp_path / "tools", cache=tmp_path / "cache")

    assert store.fetch(lock.digests["lib-1.0-py3-none-any.whl"]) == content


def resolved_pylock(resolved: Resolve, root: Path, wheel: str) -> Lock:
    (root / "pylock.toml").write_text(
        f'lock-version = "1.0"\n[[packages]]\nname = "lib"\nversion = "1.0"\nwheels = [{{ {wheel} }}]\n'
    )
    return resolved()


def test_settings_of_uv_in_a_script_block_count(resolved: Resolve, index: Index, root: Path) -> None:
    write_source(root / "local", "mylocal", "1.0")
    index.add("mylocal", "9.0")
    (root / "flow.py").write_text(
        '# /// script\n# dependencies = ["mylocal"]\n#\n# [tool.uv.sources]\n# mylocal = { path = "local" }\n# ///\n'
    )

    assert versions(resolved())["mylocal"] == "1.0"


def test_kitarus_own_repository_is_no_package_of_an_index(resolved: Resolve, index: Index, root: Path) -> None:
    index.add("lib", "1.0")
    (root / "pyproject.toml").write_text(
        '[project]\nname = "kitaru"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["lib"]\n'
    )
    subprocess.run([find_uv_bin(), "lock", "-q"], cwd=root, check=True)

    lock = resolved()

    assert set(versions(lock)) == {*RUNTIME, "lib"}
    assert lock.warnings == ()


def test_a_cache_that_cannot_be_written_is_one_clear_error(resolved: Resolve, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")

    with pytest.raises(KitaruBackendError, match=r"cannot write .*cache"):
        resolved()
