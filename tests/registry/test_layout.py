"""Blobs on disk: whole or not there, never handed out damaged, named by one index that many may change."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import oras.layout
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru_registry.canonical import hex_of, sha256_of
from kitaru_registry.errors import KitaruBackendError, KitaruDigestMismatchError, KitaruNotFoundError
from kitaru_registry.models import Digest
from kitaru_registry.names import NAME
from kitaru_registry.stores.base import BlobStore, Descriptor
from kitaru_registry.stores.layout import OciLayout, ref_name

CONTENT = b"some bytes"
DIGEST = sha256_of(CONTENT)
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def put(store: OciLayout, content: bytes = CONTENT) -> Descriptor:
    descriptor = Descriptor(MANIFEST_TYPE, sha256_of(content), len(content))
    store.push(descriptor, io.BytesIO(content))
    return descriptor


def file_of(store: OciLayout, digest: Digest = DIGEST) -> Path:
    return store.root / "blobs" / "sha256" / hex_of(digest)


def stray_files(store: OciLayout) -> list[Path]:
    return list((store.root / "ingest").iterdir())


def test_it_is_a_blob_store(store: OciLayout) -> None:
    as_declared: BlobStore = store

    assert not as_declared.exists(DIGEST)


def test_a_blob_that_was_pushed_is_there_and_its_bytes_come_back(store: OciLayout, tmp_path: Path) -> None:
    descriptor = put(store)

    assert store.exists(descriptor)
    assert store.exists(DIGEST)
    assert store.size(DIGEST) == len(CONTENT)
    assert store.fetch(DIGEST) == CONTENT
    assert store.path(DIGEST).read_bytes() == CONTENT
    with store.open(DIGEST) as file:
        assert file.read() == CONTENT


def test_reading_creates_nothing(store: OciLayout) -> None:
    assert store.names() == {}
    assert not store.exists(DIGEST)
    assert not store.root.exists()


def test_a_blob_is_read_only(store: OciLayout) -> None:
    put(store)

    assert stat.S_IMODE(file_of(store).stat().st_mode) == 0o400


@pytest.mark.parametrize("content", [b"other bytes", b"", CONTENT + b"x"])
def test_bytes_that_differ_from_their_descriptor_are_not_stored(store: OciLayout, content: bytes) -> None:
    with pytest.raises(KitaruDigestMismatchError, match=DIGEST):
        store.push(Descriptor(MANIFEST_TYPE, DIGEST, len(CONTENT)), io.BytesIO(content))

    assert not store.exists(DIGEST)
    assert stray_files(store) == []


def test_a_wrong_size_is_refused_even_where_the_digest_is_right(store: OciLayout) -> None:
    with pytest.raises(KitaruDigestMismatchError):
        store.push(Descriptor(MANIFEST_TYPE, DIGEST, len(CONTENT) + 1), io.BytesIO(CONTENT))

    assert not store.exists(DIGEST)


class Breaks(io.BytesIO):
    """Gives half of its bytes, then what a full disk or a broken line gives."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().read(5)


def test_a_push_that_breaks_off_leaves_nothing_and_says_what_it_was(store: OciLayout) -> None:
    with pytest.raises(KitaruBackendError, match=f"cannot write {DIGEST} .*No space left on device"):
        store.push(Descriptor(MANIFEST_TYPE, DIGEST, len(CONTENT)), Breaks(CONTENT))

    assert not store.exists(DIGEST)
    assert stray_files(store) == []


READS: dict[str, Callable[[OciLayout, Digest], object]] = {
    "fetch": lambda store, digest: store.fetch(digest),
    "open": lambda store, digest: store.open(digest),
    "path": lambda store, digest: store.path(digest),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("damage", [b"some bytez", b"some byte", b""])
def test_damaged_bytes_are_refused_by_name_at_every_read(store: OciLayout, read: str, damage: bytes) -> None:
    put(store)
    file_of(store).chmod(0o644)
    file_of(store).write_bytes(damage)

    with pytest.raises(KitaruDigestMismatchError, match=DIGEST) as refused:
        READS[read](store, DIGEST)
    assert refused.value.digest == DIGEST


@pytest.mark.parametrize("read", [*READS, "size", "touch"])
def test_a_blob_that_is_not_there_is_named(store: OciLayout, read: str) -> None:
    with pytest.raises(KitaruNotFoundError, match=DIGEST):
        READS.get(read, lambda store, digest: getattr(store, read)(digest))(store, DIGEST)


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "sha512:" + "0" * 64, "sha256:" + "A" * 64, "v3", ""])
def test_what_is_no_digest_never_becomes_a_path(store: OciLayout, digest: str) -> None:
    with pytest.raises(KitaruNotFoundError, match="no blob has such a name"):
        store.fetch(Digest(digest))


def test_pushing_what_is_there_leaves_the_file_alone_and_marks_it_as_needed(store: OciLayout) -> None:
    descriptor = put(store)
    inode = file_of(store).stat().st_ino
    os.utime(file_of(store), (0, 0))

    store.push(descriptor, io.BytesIO(CONTENT))

    assert file_of(store).stat().st_ino == inode
    assert file_of(store).stat().st_mtime > 0


def test_pushing_repairs_what_is_damaged(store: OciLayout) -> None:
    descriptor = put(store)
    file_of(store).chmod(0o644)
    file_of(store).write_bytes(b"some bytez")

    store.push(descriptor, io.BytesIO(CONTENT))

    assert store.fetch(DIGEST) == CONTENT


def test_a_descriptor_of_another_size_does_not_exist(store: OciLayout) -> None:
    put(store)

    assert not store.exists(Descriptor(MANIFEST_TYPE, DIGEST, 1))


def test_touch_makes_a_blob_young(store: OciLayout) -> None:
    put(store)
    os.utime(file_of(store), (0, 0))
    store.touch(DIGEST)

    assert file_of(store).stat().st_mtime > 0


def test_a_name_stands_for_the_last_manifest_that_got_it(store: OciLayout) -> None:
    first, second = put(store, b"{}"), put(store, b'{"a":1}')
    store.name("review-v1", first)
    store.name("review-v2", first)
    store.name("review-v1", second)

    assert store.names() == {"review-v2": first, "review-v1": second}


def test_a_name_for_a_blob_that_is_not_there_is_refused(store: OciLayout) -> None:
    with pytest.raises(KitaruNotFoundError):
        store.name("review-v1", Descriptor(MANIFEST_TYPE, DIGEST, len(CONTENT)))
    assert store.names() == {}


def test_a_name_that_is_taken_away_leaves_the_blob(store: OciLayout) -> None:
    store.name("review-v1", put(store))
    store.unname("review-v1")
    store.unname("review-v1")

    assert store.names() == {}
    assert store.exists(DIGEST)


def test_the_folder_is_an_image_layout_from_its_first_blob_on(store: OciLayout) -> None:
    put(store)

    assert oras.layout.Layout.is_oci_layout(str(store.root))


def test_entries_that_others_made_are_kept(store: OciLayout) -> None:
    store.name("review-v1", put(store))
    file = store.root / "index.json"
    index = json.loads(file.read_bytes())
    foreign = {"mediaType": MANIFEST_TYPE, "digest": DIGEST, "size": len(CONTENT)}
    file.write_text(json.dumps(index | {"manifests": [foreign, *index["manifests"]], "annotations": {"by": "oras"}}))

    store.name("review-v2", put(store))

    assert foreign in json.loads(file.read_bytes())["manifests"]
    assert json.loads(file.read_bytes())["annotations"] == {"by": "oras"}
    assert set(store.names()) == {"review-v1", "review-v2"}


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"manifests": 3}'])
def test_a_damaged_index_is_an_error_and_is_not_overwritten(store: OciLayout, content: str) -> None:
    descriptor = put(store)
    (store.root / "index.json").write_text(content)

    with pytest.raises(KitaruBackendError, match="is no OCI image index"):
        store.name("review-v1", descriptor)
    assert (store.root / "index.json").read_text() == content


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = OciLayout(tmp_path / "file" / "layout")

    with pytest.raises(KitaruBackendError, match="cannot write"):
        put(store)


DEPLOY_MANY = """
import io, sys
from pathlib import Path
from kitaru_registry.canonical import sha256_of
from kitaru_registry.stores.base import Descriptor
from kitaru_registry.stores.layout import OciLayout

store, worker = OciLayout(Path(sys.argv[1])), sys.argv[2]
for number in range(8):
    for content in (b"shared", f"{worker} {number}".encode()):
        blob = Descriptor("any", sha256_of(content), len(content))
        store.push(blob, io.BytesIO(content))
        store.name(f"flow{worker}-v{number}", blob)
"""


def test_deploys_at_once_lose_no_name_and_no_blob(store: OciLayout) -> None:
    commands = [[sys.executable, "-c", DEPLOY_MANY, str(store.root), str(worker)] for worker in range(4)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]

    assert [process.communicate()[1] for process in running] == [""] * 4
    written = {f"flow{w}-v{n}": sha256_of(f"{w} {n}".encode()) for w in range(4) for n in range(8)}
    assert {ref: descriptor.digest for ref, descriptor in store.names().items()} == written
    assert all(store.exists(digest) for digest in written.values())
    assert stray_files(store) == []


@pytest.mark.parametrize(
    ("project", "flow", "ref"),
    [
        ("default", "review", "review-v3"),
        ("team", "review", "team/review-v3"),
        ("default", "team.review", "team.review-v3"),
        ("default", "my__flow", "my+5f5f+flow-v3"),
        ("default", "flow_", "flow+5f-v3"),
    ],
)
def test_a_versions_name_in_the_layout(project: str, flow: str, ref: str) -> None:
    assert ref_name(project=project, flow=flow, version=3) == ref


some_name = st.from_regex(NAME, fullmatch=True).filter(str.isascii)


@given(st.tuples(some_name, some_name, st.integers(1, 99)), st.tuples(some_name, some_name, st.integers(1, 99)))
def test_no_two_versions_share_a_name(one: tuple[str, str, int], other: tuple[str, str, int]) -> None:
    refs = {ref_name(project=project, flow=flow, version=version) for project, flow, version in (one, other)}

    assert len(refs) == len({one, other})
