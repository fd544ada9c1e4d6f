"""Environments: built offline from a store, one per lock and interpreter, never changed."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from local_index import wheel_bytes

from kitaru_registry.canonical import sha256_of
from kitaru_registry.errors import KitaruBackendError, KitaruDigestMismatchError, KitaruNotFoundError
from kitaru_registry.home import Home
from kitaru_registry.models import Digest
from kitaru_registry.snapshots import uv_tool
from kitaru_registry.snapshots.lock import lock_text
from kitaru_registry.snapshots.packages import LockedWheel
from kitaru_registry.stores.base import Descriptor
from kitaru_registry.stores.layout import OciLayout
from kitaru_runner.host.environment import (
    Environment,
    ensure_environment,
    environment_for,
    environment_key,
    find_built,
    find_interpreter,
    shared_lock,
)

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass
class Snapshot:
    """A lock and its wheels in a store."""

    home: Home
    store: OciLayout
    wheels: list[LockedWheel] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def add(self, name: str, *, files: dict[str, str] | None = None) -> Digest:
        content = wheel_bytes(name, "1.0", files=files or {})
        digest = sha256_of(content)
        self.store.push(Descriptor("application/zip", digest, len(content)), io.BytesIO(content))
        self.wheels.append(LockedWheel(name, "1.0", f"{name}-1.0-py3-none-any.whl", digest, url=None, path=None))
        return digest

    @property
    def lock(self) -> bytes:
        return lock_text(self.wheels, python=MINOR)

    @property
    def digests(self) -> dict[str, Digest]:
        return {wheel.filename: wheel.digest for wheel in self.wheels}

    def ensure(self) -> Environment:
        self.said.clear()
        return ensure_environment(
            self.home,
            lock=self.lock,
            wheels=self.digests,
            store=self.store,
            interpreter=find_interpreter(MINOR),
            progress=self.said.append,
        )

    def blob(self, digest: Digest) -> Path:
        return self.home.layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    home = Home(tmp_path / "home")
    snapshot = Snapshot(home, OciLayout(home.layout))
    snapshot.add("lib", files={"lib/__init__.py": "answer = 42\n", "lib/data.txt": "data"})
    snapshot.add("other")
    return snapshot


def run(environment: Environment, code: str) -> str:
    command = [environment.python, "-I", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def inside(environment: Environment) -> Path:
    return next((environment.folder / "lib").glob("python*/site-packages"))


def test_an_environment_holds_the_wheels_of_its_lock_and_nothing_else(snapshot: Snapshot) -> None:
    environment = snapshot.ensure()

    assert run(environment, "import lib, other; print(lib.answer, other.version)") == "42 1.0"
    assert {path.name for path in inside(environment).glob("*.dist-info")} == {
        "lib-1.0.dist-info",
        "other-1.0.dist-info",
    }


def test_an_environment_is_built_once(snapshot: Snapshot) -> None:
    first = snapshot.ensure()
    assert snapshot.said == ["building the environment"]

    assert snapshot.ensure() == first
    assert snapshot.said == []


def test_another_lock_is_another_environment(snapshot: Snapshot) -> None:
    first = snapshot.ensure()
    snapshot.add("third")

    assert snapshot.ensure().folder != first.folder


def test_another_patch_release_or_interpreter_is_another_environment() -> None:
    interpreter = find_interpreter(MINOR)
    others = [replace(interpreter, version="3.0.99"), replace(interpreter, path=Path("/other")), interpreter]

    assert len({environment_key(b"lock", other) for other in others}) == 3
    assert environment_key(b"lock", interpreter) != environment_key(b"other lock", interpreter)


def test_no_file_of_an_environment_can_be_written(snapshot: Snapshot) -> None:
    environment = snapshot.ensure()

    for path in (environment.folder, *environment.folder.rglob("*")):
        assert path.is_symlink() or path.stat().st_mode & 0o222 == 0, path


def test_no_file_of_an_environment_is_shared_with_a_cache(snapshot: Snapshot) -> None:
    environment = snapshot.ensure()

    files = [path for path in environment.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {path.stat().st_nlink for path in files} == {1}


def test_bytecode_is_compiled_whatever_the_caller_has_set(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    environment = snapshot.ensure()

    assert list(inside(environment).glob("lib/__pycache__/__init__.*.pyc"))
    assert run(environment, "import lib; print(lib.__spec__.cached)").startswith(str(environment.folder))


def test_settings_and_caches_of_the_user_do_not_matter(
    snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "user-cache"
    settings = tmp_path / "uv.toml"
    settings.write_text('no-binary = true\nindex-url = "https://nowhere.invalid/simple"\n')
    monkeypatch.setenv("UV_CACHE_DIR", str(cache))
    monkeypatch.setenv("UV_CONFIG_FILE", str(settings))
    monkeypatch.setenv("UV_NO_BINARY", "1")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")

    assert run(snapshot.ensure(), "import lib; print(lib.answer)") == "42"
    assert not cache.exists()


def test_an_environment_is_built_without_a_network_and_with_an_empty_home(snapshot: Snapshot, tmp_path: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path; from kitaru_registry.home import Home;"
        "from kitaru_registry.stores.layout import OciLayout;"
        "from kitaru_runner.host.environment import ensure_environment, find_interpreter;"
        "home = Home(Path(sys.argv[1])); lock = sys.argv[2].encode(); wheels = json.loads(sys.argv[3]);"
        "print(ensure_environment(home, lock=lock, wheels=wheels, store=OciLayout(home.layout),"
        f" interpreter=find_interpreter({MINOR!r})).python)"
    )
    arguments = [str(snapshot.home.root), snapshot.lock.decode(), json.dumps(snapshot.digests)]
    (tmp_path / "user").mkdir()
    done = subprocess.run(
        ["unshare", "--map-root-user", "--net", sys.executable, "-c", code, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path / "user")},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).exists()
    assert list((tmp_path / "user").iterdir()) == []


@pytest.mark.parametrize("change", ["edited", "removed", "added", "marker"])
def test_a_changed_environment_is_built_again(change: str, snapshot: Snapshot) -> None:
    environment = snapshot.ensure()
    module = inside(environment) / "lib" / "__init__.py"
    for path in (module, module.parent, environment.folder):
        path.chmod(0o755)
    if change == "edited":
        module.write_text("answer = 43\n")
    elif change == "removed":
        module.unlink()
    elif change == "added":
        (module.parent / "more.py").touch()
    else:
        (environment.folder / ".kitaru-complete").unlink()

    again = snapshot.ensure()

    assert again == environment
    assert snapshot.said == ["building the environment"]
    assert run(again, "import lib; print(lib.answer)") == "42"
    assert not (module.parent / "more.py").exists()


def test_a_wheel_with_a_flipped_byte_is_refused_by_name(snapshot: Snapshot) -> None:
    digest = snapshot.wheels[0].digest
    blob = snapshot.blob(digest)
    content = bytearray(blob.read_bytes())
    content[40] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)

    with pytest.raises(KitaruDigestMismatchError, match=digest):
        snapshot.ensure()

    assert left_in(snapshot.home.environments) == []


def test_a_wheel_that_is_not_in_the_store_is_refused_by_name(snapshot: Snapshot) -> None:
    digest = snapshot.wheels[1].digest
    snapshot.blob(digest).unlink()

    with pytest.raises(KitaruNotFoundError, match=digest):
        snapshot.ensure()

    assert left_in(snapshot.home.environments) == []


def test_a_wheel_other_than_the_lock_names_is_refused(snapshot: Snapshot) -> None:
    first, second = snapshot.wheels
    swapped = {first.filename: second.digest, second.filename: first.digest}
    interpreter = find_interpreter(MINOR)

    with pytest.raises(KitaruBackendError, match="Hash mismatch"):
        ensure_environment(
            snapshot.home, lock=snapshot.lock, wheels=swapped, store=snapshot.store, interpreter=interpreter
        )

    assert left_in(snapshot.home.environments) == []


def test_a_wheel_cannot_be_named_out_of_its_folder(snapshot: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(KitaruBackendError, match="no file name"):
        ensure_environment(
            snapshot.home,
            lock=snapshot.lock,
            wheels={"../../escaped.whl": snapshot.wheels[0].digest},
            store=snapshot.store,
            interpreter=find_interpreter(MINOR),
        )

    assert list(tmp_path.rglob("escaped.whl")) == []


def left_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


def test_of_several_at_once_one_builds_and_all_get_the_same(snapshot: Snapshot) -> None:
    others = [replace(snapshot, said=[]) for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        environments = list(pool.map(Snapshot.ensure, others))

    assert len(set(environments)) == 1
    assert sum(len(other.said) for other in others) == 1


def test_an_environment_is_in_use_until_the_last_child_ends(snapshot: Snapshot) -> None:
    environment = snapshot.ensure()
    with shared_lock(environment) as descriptor:
        child = subprocess.Popen(
            [environment.python, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[descriptor], text=True
        )
    assert is_in_use(environment)

    child.communicate("\n")

    assert not is_in_use(environment)


def is_in_use(environment: Environment) -> bool:
    with environment.folder.with_suffix(".used").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_the_interpreter_below_this_process_is_found_without_running_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    interpreter = find_interpreter(MINOR)

    assert interpreter.minor == MINOR
    assert interpreter.version.startswith(f"{MINOR}.")
    assert interpreter.platform.count("-") >= 1
    assert not (interpreter.path.parent.parent / "pyvenv.cfg").exists()


def test_a_minor_that_is_not_on_this_machine_is_named() -> None:
    with pytest.raises(KitaruBackendError, match=r"3\.99"):
        find_interpreter("3.99")


def test_environments_need_no_database_library() -> None:
    code = "import sys, kitaru_runner.host.environment; print('sqlalchemy' in sys.modules, 'packaging' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]


# Where the machine lacks what it was built with


@pytest.fixture
def no_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It was there, and is gone."""
    monkeypatch.setattr(uv_tool, "find_uv_bin", lambda: str(tmp_path / "gone" / "uv"))
    uv_tool.uv_binary.cache_clear()
    yield
    uv_tool.uv_binary.cache_clear()


def for_minor(snapshot: Snapshot, minor: str = MINOR) -> Environment:
    return environment_for(
        snapshot.home, lock=snapshot.lock, wheels=snapshot.digests, store=snapshot.store, minor=minor
    )


def test_one_that_is_built_is_used_without_uv_and_a_new_one_says_that_it_is_gone(
    snapshot: Snapshot, request: pytest.FixtureRequest
) -> None:
    built = snapshot.ensure()
    request.getfixturevalue("no_uv")

    assert for_minor(snapshot) == built
    snapshot.add("third")
    with pytest.raises(KitaruBackendError, match="the uv binary is not where") as raised:
        for_minor(snapshot)
    assert "pip install" in (raised.value.hint or "")


def test_one_that_is_built_is_found_by_its_lock_and_minor_alone(snapshot: Snapshot) -> None:
    built = snapshot.ensure()

    assert find_built(snapshot.home, lock=snapshot.lock, minor=MINOR) == built
    assert find_built(snapshot.home, lock=snapshot.lock, minor="3.99") is None
    assert find_built(snapshot.home, lock=snapshot.lock + b"\n", minor=MINOR) is None


def test_one_that_was_changed_or_whose_interpreter_is_gone_is_not_found(snapshot: Snapshot) -> None:
    built = snapshot.ensure()
    built.python.parent.chmod(0o700)
    target = built.python.readlink()
    built.python.unlink()
    assert find_built(snapshot.home, lock=snapshot.lock, minor=MINOR) is None

    built.python.symlink_to(f"{target}-which-is-gone")
    assert find_built(snapshot.home, lock=snapshot.lock, minor=MINOR) is None
