"""A snapshot in a store: what is in it, who can read it, and that damage is refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import oras.layout
import pytest
from trees import Tree

from kitaru_registry.canonical import canonical_json, hex_of, sha256_of
from kitaru_registry.errors import KitaruBackendError, KitaruDigestMismatchError, KitaruNotFoundError
from kitaru_registry.models import BlobCounts, Digest, SnapshotFacts
from kitaru_registry.snapshots.artifact import (
    ARTIFACT_TYPE,
    MANIFEST_TYPE,
    WHEEL_TYPE,
    Packed,
    code_tar,
    fetch_code,
    fetch_lock,
    pack,
    read_config,
    read_manifest,
    unpack_code,
    verify,
)
from kitaru_registry.stores.base import Descriptor
from kitaru_registry.stores.layout import OciLayout, ref_name

LOCK = b'lock-version = "1.0"\n'
WHEEL = b"PK\x05\x06" + bytes(18)
WHEEL_DIGEST = sha256_of(WHEEL)
WHEELS = {"nothing-1.0-py3-none-any.whl": WHEEL_DIGEST}


@pytest.fixture
def packed(tree: Tree, store: OciLayout, facts: SnapshotFacts) -> Packed:
    tree.write({"flows/review.py": "def review(topic): ...\n", "run.sh": "#!/bin/sh\n"})
    (tree.root / "run.sh").chmod(0o755)
    store.push(Descriptor(WHEEL_TYPE, WHEEL_DIGEST, len(WHEEL)), io.BytesIO(WHEEL))
    packed = pack(store, facts=facts, collection=tree.collect(), lock=LOCK, wheels=WHEELS, new_wheels=WHEELS.values())
    store.name(ref_name(project="default", flow="review", version=1), packed.manifest)
    return packed


def flip(store: OciLayout, digest: Digest) -> None:
    """Change one byte of a blob where it lies."""
    file = store.root / "blobs" / "sha256" / hex_of(digest)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)


def test_what_was_packed_is_read_back(packed: Packed, store: OciLayout, facts: SnapshotFacts) -> None:
    config = read_config(store, packed.digest)

    assert config == packed.config
    assert (config.flow, config.options, config.wheels) == (facts.flow, facts.options, WHEELS)
    assert fetch_lock(store, config) == LOCK
    assert sha256_of(fetch_code(store, config)) == config.code
    verify(store, packed.digest)


def test_the_manifest_is_an_oci_artifact_with_one_blob_for_each_part(packed: Packed, store: OciLayout) -> None:
    manifest = json.loads(store.fetch(packed.digest))

    assert (manifest["mediaType"], manifest["artifactType"]) == (MANIFEST_TYPE, ARTIFACT_TYPE)
    assert manifest["config"]["mediaType"] == "application/vnd.kitaru.flow.config.v1+json"
    assert [layer["mediaType"].split("/")[1] for layer in manifest["layers"]] == [
        "vnd.kitaru.code.v1.tar",
        "vnd.kitaru.lock.v1+toml",
        "vnd.kitaru.wheel.v1+zip",
    ]
    assert manifest["layers"][2]["digest"] == WHEEL_DIGEST


def test_skopeo_reads_a_named_snapshot(packed: Packed, store: OciLayout) -> None:
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{store.root}:review-v1"], capture_output=True, check=True
    ).stdout

    assert sha256_of(raw) == packed.digest


@pytest.mark.parametrize("flow", ["my__flow", "flow_", "a.-b", "x-v1"])
@pytest.mark.parametrize("project", ["default", "my--team.", "team"])
def test_skopeo_reads_any_name_that_a_flow_may_have(packed: Packed, store: OciLayout, project: str, flow: str) -> None:
    ref = ref_name(project=project, flow=flow, version=12)
    store.name(ref, packed.manifest)

    raw = subprocess.run(["skopeo", "inspect", "--raw", f"oci:{store.root}:{ref}"], capture_output=True, check=True)
    assert sha256_of(raw.stdout) == packed.digest


def test_oras_reads_the_layout_and_finds_every_blob(packed: Packed, store: OciLayout) -> None:
    layout = oras.layout.NewLayout(str(store.root))

    config, manifest = packed.config, read_manifest(store, packed.digest)
    expected = {config.code, config.lock, WHEEL_DIGEST, manifest.config.digest, packed.digest}
    assert set(layout.get_ordered_blobs("review-v1")) == expected


def test_a_second_pack_after_an_edit_adds_code_and_config_alone(
    packed: Packed, tree: Tree, store: OciLayout, facts: SnapshotFacts
) -> None:
    tree.write({"flows/review.py": "def review(topic): return 2\n"})

    again = pack(store, facts=facts, collection=tree.collect(), lock=LOCK, wheels=WHEELS)

    assert (packed.counts.total, packed.counts.new) == (4, 4)
    assert (again.counts.total, again.counts.new) == (4, 2)
    assert again.counts.bytes_new == again.counts.bytes_total - len(LOCK) - len(WHEEL)


def test_the_same_pack_again_is_the_same_digest_and_nothing_new(
    packed: Packed, tree: Tree, store: OciLayout, facts: SnapshotFacts
) -> None:
    again = pack(store, facts=facts, collection=tree.collect(), lock=LOCK, wheels=WHEELS)

    assert again.digest == packed.digest
    assert again.counts == BlobCounts(total=4, new=0, bytes_total=packed.counts.bytes_total, bytes_new=0)


@pytest.mark.parametrize(
    "change",
    [{"flow": "other"}, {"python": "3.12"}, {"platform": "linux-aarch64"}, {"kitaru": "0.2.0"}, {"input_schema": {}}],
)
def test_each_fact_is_part_of_the_identity(
    packed: Packed, tree: Tree, store: OciLayout, facts: SnapshotFacts, change: dict[str, object]
) -> None:
    other = pack(store, facts=facts.model_copy(update=change), collection=tree.collect(), lock=LOCK, wheels=WHEELS)

    assert other.digest != packed.digest


def test_a_wheel_that_is_not_in_the_store_stops_the_pack_before_the_manifest(
    tree: Tree, store: OciLayout, facts: SnapshotFacts
) -> None:
    tree.write({"flow.py": ""})
    with pytest.raises(KitaruNotFoundError, match=WHEEL_DIGEST):
        pack(store, facts=facts, collection=tree.collect(), lock=LOCK, wheels=WHEELS)

    blobs = [file.read_bytes() for file in (store.root / "blobs" / "sha256").iterdir()]
    assert not any(ARTIFACT_TYPE.encode() in blob for blob in blobs)


READS: dict[str, Callable[[OciLayout, Packed], object]] = {
    "manifest": lambda store, packed: read_manifest(store, packed.digest),
    "manifest through config": lambda store, packed: read_config(store, packed.digest),
    "config": lambda store, packed: read_config(store, packed.digest),
    "code": lambda store, packed: fetch_code(store, packed.config),
    "lock": lambda store, packed: fetch_lock(store, packed.config),
    "wheel": lambda store, packed: store.path(WHEEL_DIGEST),
    "wheel opened": lambda store, packed: store.open(WHEEL_DIGEST),
}


def digest_behind(store: OciLayout, packed: Packed, part: str) -> Digest:
    if part.startswith("manifest"):
        return packed.digest
    if part == "config":
        return read_manifest(store, packed.digest).config.digest
    return {"code": packed.config.code, "lock": packed.config.lock}.get(part, WHEEL_DIGEST)


@pytest.mark.parametrize("part", READS)
def test_one_flipped_byte_is_refused_by_name_at_every_read(packed: Packed, store: OciLayout, part: str) -> None:
    damaged = digest_behind(store, packed, part)
    flip(store, damaged)

    with pytest.raises(KitaruDigestMismatchError, match=damaged):
        READS[part](store, packed)
    with pytest.raises(KitaruDigestMismatchError, match=damaged):
        verify(store, packed.digest)


def test_packing_again_repairs_a_damaged_blob(
    packed: Packed, tree: Tree, store: OciLayout, facts: SnapshotFacts
) -> None:
    flip(store, packed.config.code)

    pack(store, facts=facts, collection=tree.collect(), lock=LOCK, wheels=WHEELS)

    verify(store, packed.digest)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"artifactType":"other","schemaVersion":2}', LOCK])
def test_a_blob_that_is_no_manifest_is_refused(store: OciLayout, content: bytes) -> None:
    digest = sha256_of(content)
    store.push(Descriptor(MANIFEST_TYPE, digest, len(content)), io.BytesIO(content))

    with pytest.raises(KitaruBackendError, match=f"{digest} is not the manifest of a snapshot"):
        read_manifest(store, digest)


def test_a_config_of_a_newer_schema_names_the_upgrade(packed: Packed, store: OciLayout) -> None:
    newer = canonical_json(packed.config.model_dump(mode="json", by_alias=True) | {"schema": 2, "news": True})
    store.push(Descriptor("any", sha256_of(newer), len(newer)), io.BytesIO(newer))
    manifest = json.loads(store.fetch(packed.digest))
    manifest["config"] |= {"digest": sha256_of(newer), "size": len(newer)}
    content = canonical_json(manifest)
    store.push(Descriptor(MANIFEST_TYPE, sha256_of(content), len(content)), io.BytesIO(content))

    with pytest.raises(KitaruBackendError, match="has schema 2") as refused:
        read_config(store, sha256_of(content))
    assert "upgrade" in str(refused.value.hint)


def test_unpacked_code_is_what_was_collected_and_read_only(packed: Packed, store: OciLayout, tmp_path: Path) -> None:
    folder = tmp_path / "code" / "x"
    unpack_code(fetch_code(store, packed.config), folder)

    assert (folder / "flows/review.py").read_text() == "def review(topic): ...\n"
    assert (folder / "flows/review.py").stat().st_mode & 0o777 == 0o444
    assert (folder / "run.sh").stat().st_mode & 0o777 == 0o555
    assert [entry.name for entry in folder.parent.iterdir()] == ["x"]


def test_unpacking_again_leaves_good_code_alone(packed: Packed, store: OciLayout, tmp_path: Path) -> None:
    code = fetch_code(store, packed.config)
    unpack_code(code, tmp_path / "code")
    (tmp_path / "code" / "flows" / "__pycache__").mkdir()
    before = (tmp_path / "code").stat().st_ino

    unpack_code(code, tmp_path / "code")

    assert (tmp_path / "code").stat().st_ino == before


@pytest.mark.parametrize("damage", ["changed", "added", "removed", "half"])
def test_code_that_was_changed_after_unpacking_is_replaced(
    packed: Packed, store: OciLayout, tmp_path: Path, damage: str
) -> None:
    code, folder = fetch_code(store, packed.config), tmp_path / "code"
    unpack_code(code, folder)
    file = folder / "flows" / "review.py"
    if damage == "added":
        (folder / "json.py").write_text("raise SystemExit")
    else:
        file.unlink()
    if damage == "changed":
        file.write_text("def review(topic): return 'else'\n")
    if damage == "half":
        (folder / "run.sh").unlink()

    unpack_code(code, folder)

    assert file.read_text() == "def review(topic): ...\n"
    assert not (folder / "json.py").exists()


def test_many_processes_may_unpack_the_same_code_at_once(packed: Packed, store: OciLayout, tmp_path: Path) -> None:
    (tmp_path / "code.tar").write_bytes(fetch_code(store, packed.config))
    code = (
        "import sys, pathlib; from kitaru_registry.snapshots.artifact import unpack_code;"
        "unpack_code(pathlib.Path(sys.argv[1]).read_bytes(), pathlib.Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "code.tar"), str(tmp_path / "out" / "code")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]

    assert [process.communicate()[1] for process in running] == [""] * 4
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["code"]


@pytest.mark.parametrize("name", ["../outside.py", "/etc/outside.py", "a/../../outside.py", "./x", "a//b"])
def test_a_tar_that_reaches_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())

    with pytest.raises(KitaruBackendError, match="not the code of a snapshot"):
        unpack_code(out.getvalue(), tmp_path / "inner" / "code")
    assert not (tmp_path / "inner" / "code").exists()
    assert not (tmp_path / "outside.py").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_a_tar_that_holds_more_than_plain_files_is_refused(tmp_path: Path, kind: bytes) -> None:
    entry, out = tarfile.TarInfo("link"), io.BytesIO()
    entry.type, entry.linkname = kind, "/etc/hostname"
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(entry)

    with pytest.raises(KitaruBackendError, match="no plain file"):
        unpack_code(out.getvalue(), tmp_path / "code")
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_no_tar_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KitaruBackendError, match="not the code of a snapshot"):
        unpack_code(b"no tar" * 1000, tmp_path / "code")


def test_the_code_blob_says_nothing_of_owners_and_times(tree: Tree) -> None:
    code = code_tar(tree.write({"flow.py": ""}).collect())

    with tarfile.open(fileobj=io.BytesIO(code)) as tar:
        entry = tar.getmember("flow.py")
    assert (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime, entry.mode) == (0, 0, "", "", 0, 0o644)
