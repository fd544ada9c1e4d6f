"""A tag has one route at every moment, one winner in every race, and a history that is a chain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from registries import Record, Registry, at_once

from kitaru_registry.deployments.tags import Author, holders, list_tags
from kitaru_registry.deployments.versions import delete_version
from kitaru_registry.errors import KitaruConflictError, KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru_registry.models import TagMove

CI = Author("ci@build", reason="nightly", commit="d" * 40)


@pytest.fixture
def four(registry: Registry) -> Registry:
    """A flow with v1 to v4, `default` at v1."""
    for content in ("one", "two", "three", "four"):
        registry.deploy(content)
    return registry


def route(registry: Registry, tag: str) -> dict[str, int] | None:
    return registry.look(tag).routes


def is_chain(moves_newest_first: Sequence[TagMove]) -> bool:
    moves = moves_newest_first[::-1]
    return [move.from_ for move in moves] == [None, *(move.to for move in moves[:-1])]


def test_a_move_says_from_where_to_where_by_whom_and_why(four: Registry) -> None:
    first = four.move("stable", 2)
    second = four.move("stable", 3, author=CI)

    assert (first.from_, first.to, first.moved) == (None, {"v2": 100}, True)
    assert (second.from_, second.to, second.moved) == ({"v2": 100}, {"v3": 100}, True)
    assert (second.actor, second.reason, second.commit) == ("ci@build", "nightly", "d" * 40)
    assert four.history("stable") == [second, first]


def test_a_move_to_where_the_tag_is_leaves_no_trace(four: Registry) -> None:
    four.move("stable", 2)

    again = four.move("stable", 2, author=CI)

    assert (again.moved, again.from_, again.to) == (False, {"v2": 100}, {"v2": 100})
    assert len(four.history("stable")) == 1


def test_a_move_to_what_is_not_there_changes_nothing(four: Registry) -> None:
    four.move("stable", 2)
    delete_version(four.database, project="default", flow="review", version=4)

    for version, said in ((9, "review has no v9"), (4, "v4 of review was deleted")):
        with pytest.raises(KitaruNotFoundError, match=said):
            four.move("stable", version)
    with pytest.raises(KitaruNotFoundError, match="there is no flow nosuch"):
        four.move("stable", 1, flow="nosuch")

    assert route(four, "stable") == {"v2": 100}
    assert len(four.history("stable")) == 1


@pytest.mark.parametrize("tag", ["v3", "st able", "", "-stable", "a/b", "x" * 101])
def test_an_odd_tag_name_is_refused(four: Registry, tag: str) -> None:
    with pytest.raises(KitaruUsageError):
        four.move(tag, 1)


def test_tags_of_two_flows_do_not_meet(four: Registry) -> None:
    four.deploy("one", flow="other")
    four.move("stable", 4)
    four.move("stable", 1, flow="other")

    assert route(four, "stable") == {"v4": 100}
    assert len(four.history("stable", flow="other")) == 1


def test_tags_are_listed_last_moved_first(four: Registry) -> None:
    four.deploy("one", flow="other")
    four.move("stable", 2)
    four.move("canary", 3)
    four.move("stable", 3)

    assert [(state.flow, state.tag) for state in list_tags(four.database, project="default")] == [
        ("review", "stable"), ("review", "canary"), ("other", "default"), ("review", "default"),
    ]  # fmt: skip
    assert [state.tag for state in list_tags(four.database, project="default", flow="other")] == ["default"]
    with pytest.raises(KitaruNotFoundError):
        list_tags(four.database, project="default", flow="nosuch")


def test_a_move_counts_what_still_runs_on_the_version_it_left(four: Registry) -> None:
    four.move("stable", 2)
    for status in ("pending", "running", "waiting", "completed", "failed", "cancelled"):
        four.execute(2, status)
    four.execute(3, "running")
    four.execute(2, "running", flow="other")

    assert four.move("stable", 3).still_running == 3
    assert four.move("stable", 3).still_running == 0


# Races


def test_who_saw_an_older_state_loses_and_is_told_the_other_move(four: Registry) -> None:
    four.move("stable", 2)
    seen = four.look("stable")
    four.move("stable", 3, author=CI, seen=seen)

    with pytest.raises(KitaruConflictError) as lost:
        four.move("stable", 4, seen=seen)

    assert lost.value.message == "tag stable of review moved to v3 by ci@build while you were moving it to v4"
    assert lost.value.hint == "kitaru tag history stable --flow review"
    assert route(four, "stable") == {"v3": 100}


def test_who_loses_to_the_same_move_has_what_they_wanted(four: Registry) -> None:
    seen = four.look("stable")
    four.move("stable", 3, author=CI, seen=seen)

    assert four.move("stable", 3, seen=seen).moved is False


def test_a_tag_that_went_away_and_came_back_has_moved(four: Registry) -> None:
    four.move("stable", 2)
    seen = four.look("stable")
    four.move("stable", 3)
    four.move("stable", 2)

    with pytest.raises(KitaruConflictError):
        four.move("stable", 4, seen=seen)


@pytest.mark.parametrize(
    ("act", "doing"),
    [
        (lambda registry, seen: registry.rollback("stable", seen=seen), "rolling it back"),
        (lambda registry, seen: registry.delete_tag("stable", seen=seen), "deleting it"),
    ],
)
def test_rollbacks_and_deletions_can_lose_too(
    four: Registry, act: Callable[[Registry, object], object], doing: str
) -> None:
    four.move("stable", 2)
    four.move("stable", 3)
    seen = four.look("stable")
    four.move("stable", 4)

    with pytest.raises(KitaruConflictError, match=f"moved to v4 by me@laptop while you were {doing}"):
        act(four, seen)


def test_a_deletion_wins_over_a_move_that_saw_the_tag(four: Registry) -> None:
    four.move("canary", 2)
    seen = four.look("canary")
    four.delete_tag("canary")

    with pytest.raises(KitaruConflictError, match="canary of review was deleted by me@laptop while you were moving"):
        four.move("canary", 3, seen=seen)


def test_of_threads_that_saw_one_state_one_wins(four: Registry) -> None:
    seen, barrier = four.look("stable"), threading.Barrier(4)
    outcomes: list[str] = []

    def try_to_move(version: int) -> None:
        barrier.wait()
        try:
            outcomes.append(str(four.move("stable", version, seen=seen).to))
        except KitaruConflictError:
            outcomes.append("lost")

    threads = [threading.Thread(target=try_to_move, args=(version,)) for version in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes.count("lost") == 3
    assert str(route(four, "stable")) in outcomes
    assert len(four.history("stable")) == 1


def test_of_processes_that_race_one_wins_each_expected_state(four: Registry, record: Record) -> None:
    code = """
answer = []
for i in range(15):
    seen = registry.look("stable")
    try:
        # A target that no state routes to twice in a row, so that nobody finds the tag moved for them.
        target = (me + i) % 4 + 1
        move = registry.move("stable", target, author=Author(f"process {me}"), seen=seen)
        answer.append([seen.last_move, move.moved])
    except KitaruConflictError:
        answer.append([seen.last_move, False])
"""
    answers = at_once(record, code, processes=3)

    won = [expected for tries in answers for expected, moved in tries if moved]
    history = four.history("stable")
    assert len(won) == len(set(won)) == len(history)
    assert is_chain(history)
    assert all(move.from_ != move.to for move in history)
    assert route(four, "stable") == history[0].to


# Rollback


def test_a_rollback_goes_to_the_version_before_and_freezes_the_tag(four: Registry) -> None:
    four.move("stable", 2)
    four.move("stable", 4)
    four.execute(4, "waiting")

    back = four.rollback("stable", author=Author("me@laptop", "v4 loops"))

    assert (back.kind, back.from_, back.to, back.frozen) == ("rollback", {"v4": 100}, {"v2": 100}, True)
    assert (back.moved, back.still_running) == (True, 1)
    with pytest.raises(KitaruStateError) as refused:
        four.move("stable", 3)
    assert refused.value.message == "tag stable of review is frozen: me@laptop rolled it back to v2 (v4 loops)"
    assert refused.value.hint == "kitaru tag move stable v3 --flow review --release"


def test_a_released_tag_moves_again(four: Registry) -> None:
    four.move("stable", 2)
    four.move("stable", 4)
    four.rollback("stable")

    released = four.move("stable", 3, release=True)

    assert (released.moved, released.frozen) == (True, False)
    assert four.move("stable", 4).moved
    assert is_chain(four.history("stable"))


def test_a_tag_is_released_in_place_too(four: Registry) -> None:
    four.move("stable", 2)
    four.move("stable", 4)
    four.rollback("stable")

    released = four.move("stable", 2, release=True)

    assert (released.moved, released.frozen, released.kind) == (False, False, "release")
    assert four.move("stable", 3).moved
    assert is_chain(four.history("stable"))


def test_two_rollbacks_go_two_versions_back(four: Registry) -> None:
    for version in (1, 2, 3):
        four.move("stable", version)

    assert four.rollback("stable").to == {"v2": 100}
    assert four.rollback("stable").to == {"v1": 100}
    with pytest.raises(KitaruStateError, match="has no earlier version to go back to: it is at v1"):
        four.rollback("stable")


def test_a_rollback_skips_deleted_versions(four: Registry) -> None:
    for version in (1, 2, 3):
        four.move("stable", version)
    delete_version(four.database, project="default", flow="review", version=2)

    assert four.rollback("stable").to == {"v1": 100}


def test_after_a_rollback_and_a_release_the_bad_version_is_not_gone_back_to(four: Registry) -> None:
    for version in (2, 3):
        four.move("stable", version)
    four.rollback("stable")
    four.move("stable", 4, release=True)

    assert four.rollback("stable").to == {"v2": 100}


def test_a_rollback_goes_where_it_is_told(four: Registry) -> None:
    four.move("stable", 4)

    assert four.rollback("stable", to=3).to == {"v3": 100}
    assert four.rollback("stable", to=3).moved is False
    with pytest.raises(KitaruNotFoundError, match="review has no v9"):
        four.rollback("stable", to=9)


def test_a_rollback_in_place_freezes(four: Registry) -> None:
    four.move("stable", 3)

    assert four.rollback("stable", to=3).moved is False
    with pytest.raises(KitaruStateError, match="frozen"):
        four.move("stable", 4)


def test_a_rollback_of_a_tag_that_is_not_there_says_which_are(four: Registry) -> None:
    with pytest.raises(KitaruNotFoundError, match="review has no tag stabl; there is the tag default"):
        four.rollback("stabl")


@given(st.lists(st.tuples(st.sampled_from(["move", "move", "rollback", "delete"]), st.integers(1, 5)), max_size=30))
def test_what_was_rolled_back_is_never_gone_back_to(steps: list[tuple[str, int]]) -> None:
    changes: list[tuple[str, int | None]] = []
    bad: set[int] = set()
    for kind, number in steps:
        candidates = holders(changes)
        present = candidates[-1] if candidates else None
        earlier = [version for version in candidates if version != present]
        assert not bad.intersection(earlier)
        if kind == "move":
            changes.append(("move", number))
            # Moved there by name, it is as good as any other again.
            bad.discard(number)
        elif kind == "delete":
            changes.append(("delete", None))
            bad.clear()
        elif earlier and present is not None:
            changes.append(("rollback", earlier[-1]))
            gone = set(candidates) - set(holders(changes))
            assert holders(changes)[-1] == earlier[-1]
            bad |= gone


# Deletion


def test_a_deleted_tag_keeps_its_history_and_can_be_made_anew(four: Registry) -> None:
    four.move("canary", 2)
    gone = four.delete_tag("canary")

    assert (gone.kind, gone.from_, gone.to, gone.moved) == ("delete", {"v2": 100}, None, True)
    assert route(four, "canary") is None
    assert four.move("canary", 3).from_ is None
    assert is_chain(four.history("canary"))
    with pytest.raises(KitaruStateError, match="no earlier version"):
        four.rollback("canary")


def test_default_cannot_be_deleted(four: Registry) -> None:
    with pytest.raises(KitaruStateError, match="default of review cannot be deleted"):
        four.delete_tag("default")


def test_a_frozen_tag_cannot_be_deleted(four: Registry) -> None:
    four.move("stable", 2)
    four.rollback("stable", to=1)

    with pytest.raises(KitaruStateError, match="frozen"):
        four.delete_tag("stable")


def test_what_never_was_has_no_history(four: Registry) -> None:
    with pytest.raises(KitaruNotFoundError, match="review has no tag stable"):
        four.history("stable")
    with pytest.raises(KitaruNotFoundError, match="review has no tag stable"):
        four.delete_tag("stable")
