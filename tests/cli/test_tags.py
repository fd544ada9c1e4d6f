"""`kitaru tag`, `flows` and `versions` over a real registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Kitaru, Register


@pytest.fixture
def three_versions(register: Register) -> None:
    register("review_flow", versions=3)


@pytest.mark.usefixtures("three_versions")
def test_a_move_tells_scripts_from_where_to_where_by_whom_and_why(kitaru: Kitaru) -> None:
    moved = kitaru("tag", "move", "canary", "v2", "--reason", "try it", "-o", "json")

    assert (moved.code, moved.err) == (0, "")
    assert json.loads(moved.out)["command"] == "tag.move"
    assert moved.item["flow"] == "review_flow"
    assert moved.item["tag"] == "canary"
    assert (moved.item["from"], moved.item["to"]) == (None, {"v2": 100})
    assert moved.item["moved"] is True
    assert (moved.item["actor"], moved.item["reason"]) == ("ada@analytical", "try it")
    assert moved.item["at"].endswith("Z")


@pytest.mark.usefixtures("three_versions")
def test_a_move_tells_people_in_a_line(kitaru: Kitaru) -> None:
    kitaru("tag", "move", "review_flow@canary", "2")

    assert kitaru("tag", "move", "canary", "v3", "--flow", "review_flow").out == "review_flow@canary: v2 -> v3\n"


@pytest.mark.usefixtures("three_versions")
def test_a_move_to_where_it_is_changes_nothing(kitaru: Kitaru) -> None:
    kitaru("tag", "move", "canary", "v2")

    assert kitaru("tag", "move", "canary", "v2", "-o", "json").item["moved"] is False


@pytest.mark.usefixtures("three_versions")
def test_a_rollback_goes_back_freezes_and_is_undone_by_release_alone(kitaru: Kitaru) -> None:
    for version in ("v1", "v2"):
        kitaru("tag", "move", "stable", version)

    back = kitaru("tag", "rollback", "stable", "--reason", "it loops", "-o", "json")
    refused = kitaru("tag", "move", "stable", "v3", "-o", "json")
    released = kitaru("tag", "move", "stable", "v3", "--release", "-o", "json")

    assert (back.item["to"], back.item["frozen"], back.item["reason"]) == ({"v1": 100}, True, "it loops")
    assert (refused.code, "--release" in refused.error["hint"]) == (4, True)
    assert released.item["to"] == {"v3": 100}


@pytest.mark.usefixtures("three_versions")
def test_the_history_of_a_tag_has_the_newest_move_first(kitaru: Kitaru) -> None:
    kitaru("tag", "move", "default", "v2")
    kitaru("tag", "move", "default", "v3")

    moves = kitaru("tag", "history", "default", "-o", "json").items

    assert [move["to"] for move in moves] == [{"v3": 100}, {"v2": 100}, {"v1": 100}]
    assert "v2 -> v3" in kitaru("tag", "history", "default").out


@pytest.mark.usefixtures("three_versions")
def test_a_deleted_tag_is_gone_from_the_list(kitaru: Kitaru) -> None:
    kitaru("tag", "move", "canary", "v2")

    deleted = kitaru("tag", "delete", "canary", "-o", "json")

    assert (deleted.item["from"], deleted.item["to"]) == ({"v2": 100}, None)
    assert [state["tag"] for state in kitaru("tag", "list", "-o", "json").items] == ["default"]


@pytest.mark.parametrize(
    ("line", "code", "kind", "says"),
    [
        ("tag move canary v9", 3, "KitaruNotFoundError", "v9"),
        ("tag move canary nine", 2, "KitaruUsageError", "nine is no version"),
        ("tag move v2 v2", 2, "KitaruUsageError", "v2"),
        ("tag move can/ary v2", 2, "KitaruUsageError", "can/ary"),
        ("tag move nowhere@canary v2", 3, "KitaruNotFoundError", "nowhere"),
        ("tag move review_flow@canary v2 --flow other", 2, "KitaruUsageError", "other"),
        ("tag rollback canary", 3, "KitaruNotFoundError", "canary"),
        ("tag history canary", 3, "KitaruNotFoundError", "canary"),
        ("tag delete default", 4, "KitaruStateError", "default"),
        ("versions show review_flwo@v1", 3, "KitaruNotFoundError", "review_flow"),
        ("versions show review_flow@v9", 3, "KitaruNotFoundError", "v9"),
        ("versions delete review_flow", 2, "KitaruUsageError", "which version"),
        ("versions delete review_flow@v1", 4, "KitaruConflictError", "default"),
        ("versions list nowhere", 3, "KitaruNotFoundError", "nowhere"),
        ("invoke nowhere", 3, "KitaruNotFoundError", "nowhere"),
        ("invoke review_flow --version v9", 3, "KitaruNotFoundError", "v9"),
        ("invoke review_flow --input 3", 2, "KitaruUsageError", "a number"),
        ("invoke review_flow", 2, "KitaruUsageError", "topic"),
    ],
)
@pytest.mark.usefixtures("three_versions")
def test_what_is_not_there_or_not_allowed_is_one_clear_error(
    line: str, code: int, kind: str, says: str, kitaru: Kitaru
) -> None:
    as_json = kitaru(*line.split(), "-o", "json")
    as_text = kitaru(*line.split())

    assert (as_json.code, as_text.code) == (code, code)
    assert (as_json.error["type"], as_text.out) == (kind, "")
    assert says in as_json.error["message"]
    assert as_text.err.startswith("kitaru: ")
    assert "Traceback" not in as_text.err
    assert as_json.error["hint"]


def test_without_a_flow_the_only_one_there_is_is_meant(kitaru: Kitaru, register: Register) -> None:
    register("review_flow", versions=2)
    register("release_notes", versions=1)

    refused = kitaru("tag", "move", "canary", "v1", "-o", "json")

    assert refused.code == 2
    assert "review_flow" in refused.error["message"]
    assert "release_notes" in refused.error["message"]


def test_without_a_flow_that_of_kitaru_toml_is_meant(kitaru: Kitaru, register: Register, project: Path) -> None:
    register("review_flow", versions=2)
    register("release_notes", versions=1)
    (project / "kitaru.toml").write_text('[flows.review_flow]\nentrypoint = "flows.py:review_flow"\n')

    assert kitaru("tag", "move", "canary", "v2", "-o", "json").item["flow"] == "review_flow"


@pytest.mark.usefixtures("three_versions")
def test_flows_are_listed_with_their_tags(kitaru: Kitaru) -> None:
    (found,) = kitaru("flows", "-o", "json").items

    assert (found["flow"], found["latest"], found["tags"]) == ("review_flow", 3, {"default": {"v1": 100}})
    assert kitaru("flows").out.splitlines()[1].split() == ["review_flow", "v3", "3", "default", "v1"]


@pytest.mark.usefixtures("three_versions")
def test_versions_are_listed_newest_first_and_counted(kitaru: Kitaru) -> None:
    listed = kitaru("versions", "list", "review_flow", "-o", "json")

    assert [found["version"] for found in listed.items] == [3, 2, 1]
    assert json.loads(listed.out)["count"] == 3
    assert "3f2a1b0 dirty" in kitaru("versions", "list").out


@pytest.mark.usefixtures("three_versions")
def test_a_version_is_shown_by_tag_number_or_digest(kitaru: Kitaru) -> None:
    digest = kitaru("versions", "show", "review_flow@v1", "-o", "json").item["digest"]

    assert kitaru("versions", "show", f"review_flow@{digest}", "-o", "json").item["version"] == 1
    assert "topic: string" in kitaru("versions", "show", "default/review_flow@default").out


@pytest.mark.usefixtures("three_versions")
def test_a_deleted_version_is_gone_and_its_number_stays_used(kitaru: Kitaru, register: Register) -> None:
    deleted = kitaru("versions", "delete", "review_flow@v3")
    register("review_flow", versions=3)

    assert deleted.out.startswith("Deleted review_flow v3 (sha256:")
    assert [found["version"] for found in kitaru("versions", "list", "-o", "json").items] == [4, 2, 1]
