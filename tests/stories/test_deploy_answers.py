"""What `deploy` tells scripts, in a real repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.stories.conftest import REVIEW

if TYPE_CHECKING:
    from tests.stories.conftest import Place

DEPLOYED = {"flow", "version", "digest", "created", "tags", "git", "blobs"}
"""The contract; the item says a little more."""
MORE = {"project", "changed", "warnings"}


def test_the_item_of_a_first_deploy_and_of_one_that_shares(place: Place, elsewhere: Callable[[Path], Place]) -> None:
    first = elsewhere(place.repository.root).deploy(REVIEW)

    assert set(first) == DEPLOYED | MORE
    assert (first["flow"], first["version"], first["created"], first["tags"]) == ("review_flow", 1, True, ["default"])
    assert set(first["git"]) == {"commit", "branch", "dirty", "remote"}
    assert first["git"]["commit"] == place.repository.git("rev-parse", "HEAD")
    assert (first["git"]["branch"], first["git"]["dirty"]) == ("main", False)
    assert first["blobs"]["new"] == first["blobs"]["total"]
    assert first["blobs"]["bytes_new"] == first["blobs"]["bytes_total"]

    place.repository.edit("flows/review.py", "Why they matter", "How to begin")
    second = place.deploy(REVIEW)

    assert (second["version"], second["created"], second["tags"]) == (2, True, [])
    assert second["changed"] == ["code: flows/review.py"]
    # Code and config; lock and wheels are shared.
    assert (second["blobs"]["new"], second["blobs"]["total"]) == (2, first["blobs"]["total"])


def test_credentials_of_the_remote_are_written_nowhere(place: Place) -> None:
    place.repository.git("remote", "set-url", "origin", "https://ada:hunter2@host.example/agents")

    deployed = place.deploy(REVIEW)

    assert deployed["git"]["remote"] == "https://host.example/agents"
    assert b"hunter2" not in b"".join(path.read_bytes() for path in place.home.root.glob("kitaru.db*"))
