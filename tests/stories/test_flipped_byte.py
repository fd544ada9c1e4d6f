"""A blob with one flipped byte is refused by name wherever it is read, and replaced by a deploy that has its bytes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kitaru_registry.canonical import hex_of
from kitaru_registry.models import Digest

if TYPE_CHECKING:
    from tests.stories.conftest import Place

BLOBS = ("manifest", "config", "code", "lock", "wheel")
EVERY_BLOB = pytest.mark.parametrize("blob", BLOBS)


def blob_file(place: Place, digest: str) -> Path:
    return place.home.layout / "blobs" / "sha256" / hex_of(Digest(digest))


def flip(place: Place, blob: str) -> str:
    """Flip a bit in the middle of a blob of review_flow v1; its digest."""
    manifest = place("versions", "show", "review_flow@v1").item["digest"]
    described = json.loads(blob_file(place, manifest).read_bytes())
    layers = {layer["annotations"]["org.opencontainers.image.title"]: layer["digest"] for layer in described["layers"]}
    wheel = next(name for name in layers if name.startswith("wheels/cloudpickle"))
    digest = {
        "manifest": manifest,
        "config": described["config"]["digest"],
        "code": layers["code.tar"],
        "lock": layers["pylock.toml"],
        "wheel": layers[wheel],
    }[blob]
    file = blob_file(place, digest)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    return str(digest)


@EVERY_BLOB
def test_it_is_refused_by_name_and_a_deploy_that_has_its_bytes_replaces_it(place: Place, blob: str) -> None:
    digest = flip(place, blob)
    # What was built from the blobs before is not what is asked here.
    (place.home.environments).unlink()
    os.unlink(place.home.code)

    snapshots = next(check for check in place("doctor", expect=1).items if check["name"] == "snapshots")
    assert not snapshots["ok"]
    assert digest in snapshots["message"]

    failed = place.invoke("review_flow", '{"topic": "agents"}', expect=1)
    assert failed["status"] == "failed"
    assert digest in failed["error"]["message"]
    assert (failed["error"]["origin"], failed["checkpoints"]) == ("backend", [])

    again = place.deploy()
    assert (again["version"], again["created"]) == (1, False)
    assert next(check for check in place("doctor").items if check["name"] == "snapshots")["ok"]
    assert place.invoke("review_flow", '{"topic": "agents"}', expect=6)["status"] == "waiting"


@pytest.mark.parametrize("blob", ["lock", "wheel"])
def test_a_new_version_does_not_share_damaged_bytes(place: Place, blob: str) -> None:
    flip(place, blob)
    place.repository.edit("flows/review.py", "Why they matter", "How to begin")

    assert place.deploy()["version"] == 2
    assert next(check for check in place("doctor").items if check["name"] == "snapshots")["ok"]
