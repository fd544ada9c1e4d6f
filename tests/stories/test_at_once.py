"""Two command lines at once: versions without a gap, and one winner of each move."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from tests.stories.conftest import REVIEW, Repository

if TYPE_CHECKING:
    from tests.stories.conftest import Place


def test_deploys_of_different_trees_get_the_next_numbers(place: Place, tmp_path: Path) -> None:
    folders = []
    for number in range(3):
        clone: Repository = place.repository.clone(tmp_path / f"clone{number}")
        clone.edit("flows/review.py", "Why they matter", f"Reason {number}")
        folders.append(clone.root)

    ended = place.at_once(*[["deploy", REVIEW]] * 3, cwds=folders)

    assert [done.exit_code for done in ended] == [0, 0, 0], [done.stderr for done in ended]
    assert sorted(done.item["version"] for done in ended) == [2, 3, 4]
    listed = {version["version"]: version["digest"] for version in place("versions", "list", "review_flow").items}
    assert list(listed) == [4, 3, 2, 1]
    assert all(listed[done.item["version"]] == done.item["digest"] for done in ended)
    assert next(check for check in place("doctor").items if check["name"] == "snapshots")["ok"]


def test_deploys_of_one_tree_are_one_version(place: Place) -> None:
    place.repository.edit("flows/review.py", "Why they matter", "How to begin")

    ended = place.at_once(*[["deploy", REVIEW]] * 3)

    assert [(done.exit_code, done.item["version"]) for done in ended] == [(0, 2)] * 3
    assert sorted(done.item["created"] for done in ended) == [False, False, True]
    assert len(place("versions", "show", "review_flow@v2").item["deploys"]) == 3


def test_moves_of_one_tag_are_one_chain(place: Place) -> None:
    place.repository.edit("flows/review.py", "Why they matter", "How to begin")
    place.deploy(REVIEW)
    place("tag", "move", "review_flow@stable", "v1")

    ended = place.at_once(*[["tag", "move", "review_flow@stable", version] for version in ("v2", "v1", "v2", "v1")])

    history = place("tag", "history", "review_flow@stable").items
    assert all(newer["from"] == older["to"] for newer, older in pairwise(history))
    won = [done for done in ended if done.exit_code == 0 and done.item["moved"]]
    assert len(history) == 1 + len(won)
    for done in ended:
        assert done.exit_code in (0, 4)
        if done.exit_code == 4:
            assert done.error["type"] == "KitaruConflictError"
