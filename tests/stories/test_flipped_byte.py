"""A blob with one flipped byte is refused by name wherever it is read, and replaced by a deploy that has its bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kitaru_registry.canonical import hex_of
from kitaru_registry.models import Digest
from kitaru_registry.stores.layout import OciLayout

if TYPE_CHECKING:
    from tests.stories.conftest import Place

BLOBS = ("manifest", "config", "code", "lock", "wheel")


def blob_file(layout: OciLayout, digest: str) -> Path:
    return layout.root / "blobs" / "sha256" / hex_of(Digest(digest))


def flip(place: Place, blob: str) -> str:
    """Flip a bit in the middle of a blob of review_flow v1; its digest."""
    layout = OciLayout(place.home.layout)
    manifest = layout.names()["review_flow-v1"].digest
    described = json.loads(layout.fetch(manifest))
    layers = {layer["annotations"]["org.opencontainers.image.title"]: layer["digest"] for layer in described["layers"]}
    digests = {
        "manifest": manifest,
        "config": described["config"]["digest"],
        "code": layers["code.tar"],
        "lock": layers["pylock.toml"],
        "wheel": next(layers[name] for name in layers if name.startswith("wheels/cloudpickle")),
    }
    file = blob_file(layout, digests[blob])
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    return digests[blob]


def snapshots_check(place: Place, *, expect: int) -> dict[str, Any]:
    return next(check for check in place("doctor", expect=expect).items if check["name"] == "snapshots")


@pytest.mark.parametrize("blob", BLOBS)
def test_it_is_refused_by_name_and_a_deploy_that_has_its_bytes_replaces_it(place: Place, blob: str) -> None:
    digest = flip(place, blob)
    if blob == "wheel":
        # Read only where an environment is built: as on a machine that has none.
        place.home.environments.unlink()

    checked = snapshots_check(place, expect=1)
    assert not checked["ok"]
    assert digest in checked["message"]

    pending = place.invoke("review_flow", '{"topic": "agents"}', expect=6)
    assert (pending["status"], pending["attempt"], pending["checkpoints"]) == ("pending", 0, [])
    assert digest in pending["status_reason"]

    again = place.deploy()
    assert (again["version"], again["created"]) == (1, False)
    assert place.settled(pending["exec_id"], status="waiting")["attempt"] == 1
    assert snapshots_check(place, expect=0)["ok"]


@pytest.mark.parametrize("blob", ["lock", "wheel"])
def test_a_new_version_does_not_share_damaged_bytes(place: Place, blob: str) -> None:
    flip(place, blob)
    place.repository.edit("flows/review.py", "Why they matter", "How to begin")

    assert place.deploy()["version"] == 2
    assert snapshots_check(place, expect=0)["ok"]
