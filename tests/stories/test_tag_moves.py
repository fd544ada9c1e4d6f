"""Story 2: moving a tag is the whole of a rollout or a rollback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from tests.stories.conftest import TARGETS, copy_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stories.conftest import Place

TAG_MOVE = {"flow", "tag", "from", "to", "moved", "actor", "reason", "at"}
"""The contract; the item says a little more."""
MORE = {"project", "kind", "frozen", "commit", "still_running"}
V1, V2, V3 = {"v1": 100}, {"v2": 100}, {"v3": 100}


@pytest.fixture(scope="module")
def three_versions(shelf: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A home where review_flow has v1, v2 and v3. Copy it."""
    place = copy_of(shelf, tmp_path_factory.mktemp("versions"))
    for number in (2, 3):
        place.repository.edit("flows/review.py", "Why they matter", f"Why they matter in v{number}")
        place.repository.edit("flows/review.py", f" in v{number}", " in print" if number == 2 else " in v3")
        place.repository.commit()
        assert place.deploy()["version"] == number
    yield place
    place.stop()


@pytest.fixture
def place(three_versions: Place, tmp_path: Path) -> Iterator[Place]:
    copy = copy_of(three_versions, tmp_path / "place")
    yield copy
    copy.stop()


def test_a_move_tells_scripts_what_it_did(place: Place) -> None:
    created = place("tag", "move", "review_flow@stable", "v1", env={"KITARU_ACTOR": "ada@laptop"}).item
    moved = place("tag", "move", "stable", "v2", "--flow", "review_flow", "--reason", "canary was fine").item
    again = place("tag", "move", "stable", "2", "--flow", "review_flow").item

    assert set(created) == TAG_MOVE | MORE
    assert (created["flow"], created["tag"], created["actor"]) == ("review_flow", "stable", "ada@laptop")
    assert (created["from"], created["to"], created["moved"]) == (None, V1, True)
    assert (moved["from"], moved["to"], moved["moved"], moved["reason"]) == (V1, V2, True, "canary was fine")
    assert (again["from"], again["to"], again["moved"]) == (V2, V2, False)
    assert moved["at"] > created["at"]


def test_a_deploy_moves_no_tag_unless_it_is_told_to(place: Place) -> None:
    place.repository.edit("flows/review.py", "Why they matter", "How to begin")

    deployed = place.deploy(TARGETS[0], "--tag", "canary")

    assert (deployed["version"], deployed["tags"]) == (4, ["canary"])
    assert place("versions", "show", "review_flow").item["version"] == 1


def test_a_rollback_freezes_the_tag_until_it_is_released(place: Place) -> None:
    for version in ("v1", "v3"):
        place("tag", "move", "review_flow@stable", version)
    waiting = place.invoke("review_flow@stable", '{"topic": "x"}', expect=6)

    back = place("tag", "rollback", "review_flow@stable", "--reason", "loops").item
    assert (back["from"], back["to"], back["moved"], back["kind"]) == (V3, V1, True, "rollback")
    assert (back["frozen"], back["still_running"], back["reason"]) == (True, 1, "loops")

    refused = place("tag", "move", "review_flow@stable", "v2", expect=4)
    assert "frozen" in refused.error["message"]
    assert "--release" in refused.error["hint"]
    place.repository.edit("flows/review.py", "Why they matter", "How to begin")
    assert "frozen" in place("deploy", TARGETS[0], "--tag", "stable", expect=4).error["message"]
    assert place("tag", "list", "--flow", "review_flow").items[0]["frozen"]

    released = place("tag", "move", "review_flow@stable", "v2", "--release").item
    assert (released["from"], released["to"], released["frozen"]) == (V1, V2, False)

    # Whatever the tag did meanwhile: an execution stays on its version.
    assert place.answer(waiting["exec_id"], "false")["version"] == 3


def test_a_rollback_goes_where_it_is_told(place: Place) -> None:
    place("tag", "move", "review_flow@stable", "v2")
    nowhere = place("tag", "rollback", "review_flow@stable", expect=4)
    assert nowhere.error["hint"]

    back = place("tag", "rollback", "review_flow@stable", "--to", "v1").item

    assert (back["from"], back["to"], back["frozen"]) == (V2, V1, True)


def test_a_history_is_a_chain_newest_first(place: Place) -> None:
    for version in ("v1", "v2", "v3", "v3"):
        place("tag", "move", "review_flow@canary", version)
    place("tag", "rollback", "review_flow@canary")
    assert "frozen" in place("tag", "delete", "review_flow@canary", expect=4).error["message"]
    place("tag", "move", "review_flow@canary", "v1", "--release")
    place("tag", "delete", "review_flow@canary")

    moves = place("tag", "history", "review_flow@canary").items

    assert [move["kind"] for move in moves] == ["delete", "move", "rollback", "move", "move", "move"]
    assert [move["to"] for move in moves] == [None, V1, V2, V3, V2, V1]
    assert [move["from"] for move in moves] == [V1, V2, V3, V2, V1, None]
    assert "canary" not in {tag["tag"] for tag in place("tag", "list").items}


def test_default_moves_and_cannot_be_deleted(place: Place) -> None:
    place("tag", "move", "review_flow@default", "v3")

    assert place("versions", "show", "review_flow").item["version"] == 3
    assert "default" in place("tag", "delete", "review_flow@default", expect=4).error["message"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "named"),
    [
        (("tag", "move", "review_flow@stable", "v9"), 3, "v3"),
        (("tag", "move", "review_flwo@stable", "v1"), 3, "review_flow"),
        (("tag", "move", "review_flow@v2", "v1"), 2, "v2"),
        (("tag", "move", "stable", "v1"), 2, "which flow"),
        (("tag", "history", "review_flow@nightly"), 3, "default"),
        (("tag", "rollback", "review_flow@default"), 4, "default"),
    ],
)
def test_a_move_that_cannot_be_is_one_clear_error(
    three_versions: Place, arguments: tuple[str, ...], exit_code: int, named: str
) -> None:
    error = three_versions(*arguments, expect=exit_code).error

    assert set(error) == {"type", "message", "hint"}
    assert named in f"{error['message']} {error['hint']}"
