"""Kitaru's own wheel, canonical wheels, and their way into the store."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_index import Index, wheel_bytes
from uv import find_uv_bin

from kitaru_registry.canonical import sha256_of
from kitaru_registry.errors import KitaruBackendError, KitaruDeployError
from kitaru_registry.models import Digest
from kitaru_registry.snapshots.lock import lock_text
from kitaru_registry.snapshots.packages import Lock, LockedWheel
from kitaru_registry.snapshots.wheels import Wheel, canonical_wheel, fetch_wheels, kitaru_wheel
from kitaru_registry.stores.layout import OciLayout

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def store(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "layout")


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path / "index")


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def lock_of(*wheels: LockedWheel) -> Lock:
    return Lock(lock_text(wheels, python=MINOR), wheels)


def locked(path: Path, *, url: str | None = None, digest: Digest | None = None) -> LockedWheel:
    name, version = path.name.split("-")[:2]
    place = None if url else path
    return LockedWheel(name, version, path.name, digest or sha256_of(path.read_bytes()), url=url, path=place)


def fetch(lock: Lock, store: OciLayout, tmp_path: Path, said: list[str] | None = None) -> None:
    progress = (said if said is not None else []).append
    fetch_wheels(lock, store, python=MINOR, tools=tmp_path / "tools", cache=tmp_path / "cache", progress=progress)


def test_kitarus_wheel_asks_for_pydantic_and_cloudpickle_alone() -> None:
    content = members(kitaru_wheel().content)
    metadata = next(data.decode() for name, data in content.items() if name.endswith(".dist-info/METADATA"))

    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    assert required == ["Requires-Dist: cloudpickle", "Requires-Dist: pydantic>=2"]


def test_kitarus_wheel_has_one_digest_under_any_umask_and_in_any_folder(tmp_path: Path) -> None:
    code = "from kitaru_registry.snapshots.wheels import kitaru_wheel; print(kitaru_wheel().digest)"
    digests = {
        subprocess.run(
            ["sh", "-c", f'umask {umask}; exec "$0" -c "$1"', sys.executable, code],
            cwd=tmp_path,
            env={**os.environ, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for umask, zone in (("022", "UTC"), ("077", "Asia/Tokyo"))
    }

    assert digests == {kitaru_wheel().digest}


@given(st.permutations(["a.py", "b/c.py", "b/d.txt"]), st.booleans(), st.integers(1981, 2100))
def test_a_canonical_wheel_depends_on_its_contents_alone(names: list[str], stored: bool, year: int) -> None:
    content = canonical_wheel(variant_of_a_wheel(names, stored=stored, year=year))

    assert content == canonical_wheel(variant_of_a_wheel(sorted(names), stored=True, year=1980))
    assert canonical_wheel(content) == content


def variant_of_a_wheel(names: list[str], *, stored: bool, year: int) -> bytes:
    whole = [*names, "x-1.dist-info/METADATA", "x-1.dist-info/WHEEL", "x-1.dist-info/RECORD"]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        for name in whole:
            content = f"Wheel-Version: 1.0\nGenerator: tool {year}\n" if name.endswith("WHEEL") else name
            member = zipfile.ZipInfo(name, (year, 1, 2, 3, 4, 6))
            member.external_attr = (0o100600 if stored else 0o100666) << 16
            archive.writestr(member, content)
    return buffer.getvalue()


def test_the_record_of_a_canonical_wheel_lists_every_file_with_its_hash() -> None:
    content = members(canonical_wheel(wheel_bytes("lib", "1.0")))

    rows = {row[0]: row[1:] for row in csv.reader(content["lib-1.0.dist-info/RECORD"].decode().splitlines())}
    assert rows.keys() == content.keys()
    hashed = base64.urlsafe_b64encode(hashlib.sha256(content["lib.py"]).digest()).rstrip(b"=").decode()
    assert rows["lib.py"] == [f"sha256={hashed}", str(len(content["lib.py"]))]
    assert rows["lib-1.0.dist-info/RECORD"] == ["", ""]


def test_a_canonical_wheel_keeps_what_may_be_executed() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, mode in (("x-1.data/scripts/go", 0o755), ("x.py", 0o640), ("x-1.dist-info/WHEEL", 0o644)):
            member = zipfile.ZipInfo(name)
            member.external_attr = (0o100000 | mode) << 16
            archive.writestr(member, name)

    with zipfile.ZipFile(io.BytesIO(canonical_wheel(buffer.getvalue()))) as archive:
        modes = {member.filename: oct(member.external_attr >> 16) for member in archive.infolist()}

    assert modes["x-1.data/scripts/go"] == "0o100755"
    assert modes["x.py"] == "0o100644"


@pytest.mark.parametrize("content", [b"", b"no zip", wheel_bytes("lib", "1.0")[:-40]])
def test_what_is_no_wheel_is_refused(content: bytes) -> None:
    with pytest.raises(KitaruDeployError, match="not a wheel"):
        canonical_wheel(content)


def test_kitarus_wheel_can_be_installed(tmp_path: Path) -> None:
    wheel = kitaru_wheel()
    (tmp_path / wheel.filename).write_bytes(wheel.content)
    install = [
        find_uv_bin(),
        "pip",
        "install",
        "-q",
        "--offline",
        "--no-index",
        "--no-deps",
        "--target",
        tmp_path / "t",
    ]

    subprocess.run([*install, tmp_path / wheel.filename], check=True)

    assert (tmp_path / "t" / "kitaru_registry" / "errors.py").is_file()


def test_local_wheels_are_stored_under_the_digest_of_the_file_as_it_is(
    index: Index, store: OciLayout, tmp_path: Path
) -> None:
    path = index.add("lib", "1.0")
    lock = lock_of(locked(path))

    fetch(lock, store, tmp_path)

    assert store.fetch(lock.digests[path.name]) == path.read_bytes()


def test_published_wheels_are_downloaded_as_they_are(index: Index, store: OciLayout, tmp_path: Path) -> None:
    paths = [index.add(name, "1.0") for name in ("lib", "other")]
    with index.served() as server:
        urls = [f"{server.files_url}/{path.name}" for path in paths]
        lock = lock_of(*(locked(path, url=url) for path, url in zip(paths, urls, strict=True)))
        said: list[str] = []
        fetch(lock, store, tmp_path, said)

    assert [store.fetch(wheel.digest) for wheel in lock.wheels] == [path.read_bytes() for path in paths]
    assert said == ["fetching 2 wheels"]


def test_wheels_that_the_store_holds_are_not_downloaded(index: Index, store: OciLayout, tmp_path: Path) -> None:
    known, new = index.add("known", "1.0"), index.add("new", "1.0")
    fetch(lock_of(locked(known)), store, tmp_path)
    with index.served() as server:
        wheels = [locked(path, url=f"{server.files_url}/{path.name}") for path in (known, new)]
        fetch(lock_of(*wheels), store, tmp_path)

    assert server.requested == [f"/files/{new.name}"]


def test_a_wheel_with_other_bytes_than_locked_is_refused_and_not_stored(
    index: Index, store: OciLayout, tmp_path: Path
) -> None:
    path = index.add("lib", "1.0")
    wrong = Digest(f"sha256:{'0' * 64}")

    with pytest.raises(KitaruBackendError, match="0000"):
        fetch(lock_of(locked(path, digest=wrong)), store, tmp_path)
    with index.served() as server:
        lock = lock_of(locked(path, url=f"{server.files_url}/{path.name}", digest=wrong))
        with pytest.raises(KitaruDeployError) as raised:
            fetch(lock, store, tmp_path)

    assert "0000" in (raised.value.detail or "")
    assert not store.exists(wrong)
    assert not store.exists(sha256_of(path.read_bytes()))


def test_a_wheel_that_an_index_withdrew_is_named(index: Index, store: OciLayout, tmp_path: Path) -> None:
    path = index.add("lib", "1.0")
    with index.served() as server:
        lock = lock_of(locked(path, url=f"{server.files_url}/{path.name}"))
        path.unlink()
        with pytest.raises(KitaruDeployError) as raised:
            fetch(lock, store, tmp_path)

    assert path.name in (raised.value.detail or "")


def test_kitarus_wheel_is_named_by_its_digest() -> None:
    wheel: Wheel = kitaru_wheel()

    assert wheel.digest == sha256_of(wheel.content)
    assert wheel.filename.startswith("kitaru-")
