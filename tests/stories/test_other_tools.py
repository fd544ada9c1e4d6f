"""A deployed snapshot is a plain OCI artifact: skopeo and oras read it without knowing of Kitaru."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import oras.layout
import pytest

from kitaru_registry.canonical import sha256_of

if TYPE_CHECKING:
    from tests.stories.conftest import Place


@pytest.fixture
def skopeo() -> str:
    found = shutil.which("skopeo")
    assert found, "these tests need skopeo: apt-get install skopeo"
    return found


def test_skopeo_inspects_the_manifest(shared_place: Place, skopeo: str) -> None:
    version = shared_place("versions", "show", "review_flow@v1").item
    source = f"oci:{shared_place.home.layout}:review_flow-v1"

    raw = subprocess.run([skopeo, "inspect", "--raw", source], capture_output=True, check=True).stdout

    assert sha256_of(raw) == version["digest"]
    manifest = json.loads(raw)
    assert manifest["artifactType"] == "application/vnd.kitaru.flow.v1"
    named = {layer["digest"] for layer in manifest["layers"]}
    assert named == {version["config"]["code"], version["config"]["lock"], *version["config"]["wheels"].values()}


def test_skopeo_copies_it_whole_with_the_same_digest(shared_place: Place, skopeo: str, tmp_path: Path) -> None:
    digest = shared_place("versions", "show", "look@v1").item["digest"]
    copy = [f"oci:{shared_place.home.layout}:look-v1", f"oci:{tmp_path / 'copy'}:look-v1"]
    subprocess.run([skopeo, "copy", "--quiet", "--insecure-policy", "--preserve-digests", *copy], check=True)

    (entry,) = json.loads((tmp_path / "copy" / "index.json").read_text())["manifests"]

    assert entry["digest"] == digest


def test_oras_reads_the_layout_and_finds_every_blob(shared_place: Place) -> None:
    version = shared_place("versions", "show", "purchase@v1").item
    layout = oras.layout.Layout(str(shared_place.home.layout))

    blobs = layout.get_ordered_blobs("purchase-v1")

    wheels = version["config"]["wheels"].values()
    assert {version["digest"], version["config"]["code"], version["config"]["lock"], *wheels} < set(blobs)
    for digest in blobs:
        assert sha256_of(layout.digest_to_blob_path(digest).read_bytes()) == digest
