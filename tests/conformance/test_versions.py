"""Versions are immutable, gap-free under any number of deploys at once, and never reused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from registries import ELSEWHERE, HERE, ME, Record, Registry, at_once, config_of, digest_of

from kitaru_registry.deployments.finding import resolve
from kitaru_registry.deployments.refs import parse_ref
from kitaru_registry.deployments.versions import (
    delete_version,
    list_flows,
    list_versions,
    previous_version,
    show_version,
)
from kitaru_registry.errors import KitaruConflictError, KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru_registry.models import GitFacts, Origin

GIT = GitFacts(commit="c" * 40, branch="main", dirty=True, remote="https://git.example/team/agents")


def test_each_new_digest_is_the_next_version(registry: Registry) -> None:
    numbers = [registry.deploy(content).version.version for content in ("one", "two", "three")]

    assert numbers == [1, 2, 3]


def test_the_same_digest_is_the_same_version_with_one_more_deploy(registry: Registry) -> None:
    first = registry.deploy("one", git=GIT)
    again = registry.deploy("one")

    assert (first.created, again.created) == (True, False)
    assert again.version == first.version
    shown = show_version(registry.database, parse_ref("review"), project="default")
    assert [(event.created, event.git) for event in shown.deploys] == [(False, None), (True, GIT)]


def test_flows_and_projects_count_each_for_itself(registry: Registry) -> None:
    registry.deploy("one")

    assert registry.deploy("two", flow="other").version.version == 1
    assert registry.deploy("two", project="team").version.version == 1
    assert registry.deploy("two").version.version == 2


def test_v1_gets_default_and_no_later_version_does(registry: Registry) -> None:
    first = registry.deploy("one")
    second = registry.deploy("two")

    assert first.version.tags == ("default",)
    assert [(move.tag, move.from_, move.to, move.kind) for move in first.moves] == [
        ("default", None, {"v1": 100}, "deploy")
    ]
    assert (second.version.tags, second.moves) == ((), ())


def test_a_deploy_moves_the_tag_that_it_names(registry: Registry) -> None:
    registry.deploy("one", tag="stable")

    second = registry.deploy("two", tag="stable", git=GIT)

    assert second.version.tags == ("stable",)
    assert registry.history("stable")[0] == second.moves[0]
    assert second.moves[0].commit == GIT.commit


def test_a_repeated_deploy_says_that_the_tag_was_there_already(registry: Registry) -> None:
    registry.deploy("one", tag="stable")

    (move,) = registry.deploy("one", tag="stable").moves

    assert move.moved is False
    assert len(registry.history("stable")) == 1


def test_a_deploy_to_a_frozen_tag_registers_nothing(registry: Registry) -> None:
    registry.deploy("one", tag="stable")
    registry.deploy("two", tag="stable")
    registry.rollback("stable")

    with pytest.raises(KitaruStateError, match="tag stable of review is frozen"):
        registry.deploy("three", tag="stable")

    assert [version.version for version in list_versions(registry.database, project="default")] == [2, 1]
    assert registry.deploy("four").version.version == 3


def test_an_odd_name_writes_nothing(registry: Registry) -> None:
    with pytest.raises(KitaruUsageError):
        registry.deploy("one", tag="v3")
    with pytest.raises(KitaruUsageError):
        registry.deploy("one", flow="re view")

    assert list_flows(registry.database, project="default") == []


@pytest.mark.parametrize(
    "origin",
    [
        Origin(remote=HERE.remote, root_commit=None, folder="/ci/checkout"),
        Origin(remote=None, root_commit=HERE.root_commit, folder="/ci/checkout"),
        Origin(remote=None, root_commit=None, folder=HERE.folder),
    ],
)
def test_a_flow_name_is_shared_by_clones_of_one_origin(registry: Registry, origin: Origin) -> None:
    registry.deploy("one")

    assert registry.deploy("two", origin=origin).version.version == 2
    assert registry.deploy("three", origin=HERE).version.version == 3


def test_a_flow_name_of_another_origin_is_refused_and_can_be_adopted(registry: Registry) -> None:
    registry.deploy("one")

    with pytest.raises(KitaruConflictError, match=r"belongs to https://git\.example/team/agents") as refused:
        registry.deploy("two", origin=ELSEWHERE)

    assert "--adopt" in (refused.value.hint or "")
    assert len(list_versions(registry.database, project="default")) == 1
    assert registry.deploy("two", origin=ELSEWHERE, adopt=True).version.version == 2
    with pytest.raises(KitaruConflictError):
        registry.deploy("three", origin=HERE)


def test_another_project_may_use_the_same_flow_name(registry: Registry) -> None:
    registry.deploy("one")

    assert registry.deploy("one", origin=ELSEWHERE, project="team").created


def test_lists_are_newest_first(registry: Registry) -> None:
    registry.deploy("one")
    registry.deploy("one", flow="other")
    registry.deploy("two")

    versions = list_versions(registry.database, project="default")

    assert [(version.flow, version.version) for version in versions] == [("review", 2), ("other", 1), ("review", 1)]
    assert [flow.flow for flow in list_flows(registry.database, project="default")] == ["other", "review"]
    assert [v.version for v in list_versions(registry.database, project="default", flow="other")] == [1]


def test_a_flow_is_summed_up_by_what_is_there(registry: Registry) -> None:
    registry.deploy("one")
    registry.deploy("two", tag="stable")
    registry.deploy("three")
    delete_version(registry.database, project="default", flow="review", version=3)

    (flow,) = list_flows(registry.database, project="default")

    assert (flow.versions, flow.latest) == (2, 2)
    assert flow.tags == {"default": {"v1": 100}, "stable": {"v2": 100}}


def test_a_version_is_shown_as_it_was_registered(registry: Registry) -> None:
    began = datetime.now(UTC)
    registry.deploy("one", git=GIT)

    shown = show_version(registry.database, parse_ref("review@v1"), project="default")

    assert (shown.config, shown.digest) == (config_of("review", "one"), digest_of("one"))
    assert (shown.deploys[0].actor, shown.deploys[0].git) == (ME.actor, GIT)
    assert began <= shown.created_at <= datetime.now(UTC)


def test_the_previous_version_is_the_newest_that_is_there(registry: Registry) -> None:
    assert previous_version(registry.database, project="default", flow="review") is None
    registry.deploy("one")
    registry.deploy("two")
    delete_version(registry.database, project="default", flow="review", version=2)

    previous = previous_version(registry.database, project="default", flow="review")

    assert previous is not None
    assert previous.version == 1


def test_the_number_of_a_deleted_version_stays_used(registry: Registry) -> None:
    registry.deploy("one")
    registry.deploy("two")
    delete_version(registry.database, project="default", flow="review", version=2)

    again = registry.deploy("two")

    assert (again.version.version, again.created) == (3, True)
    with pytest.raises(KitaruNotFoundError, match="v2 of review was deleted"):
        delete_version(registry.database, project="default", flow="review", version=2)


def test_a_version_that_a_tag_routes_to_is_not_deleted(registry: Registry) -> None:
    registry.deploy("one", tag="stable")

    with pytest.raises(KitaruConflictError, match="the tags default, stable route to it"):
        delete_version(registry.database, project="default", flow="review", version=1)

    assert resolve(registry.database, parse_ref("review@v1"), project="default")[0].version == 1


@pytest.mark.parametrize("status", ["pending", "running", "waiting"])
def test_a_version_that_is_executed_is_not_deleted(registry: Registry, status: str) -> None:
    registry.deploy("one")
    registry.deploy("two")
    registry.execute(2, status)

    with pytest.raises(KitaruConflictError, match="v2 of review cannot be deleted: an execution of it has not ended"):
        delete_version(registry.database, project="default", flow="review", version=2)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_version_whose_executions_ended_can_be_deleted(registry: Registry, status: str) -> None:
    registry.deploy("one")
    registry.deploy("two")
    registry.execute(2, status)
    registry.execute(2, "running", flow="other")

    assert delete_version(registry.database, project="default", flow="review", version=2).version == 2


def test_deploys_at_once_from_many_processes_leave_no_gap(registry: Registry, record: Record) -> None:
    code = 'answer = [registry.deploy(f"{me} {i}", tag="canary").version.version for i in range(10)]'

    answers = at_once(record, code, processes=3)

    assert sorted(number for numbers in answers for number in numbers) == list(range(1, 31))
    assert all(numbers == sorted(numbers) for numbers in answers)
    moves = registry.history("canary")[::-1]
    assert [move.to for move in moves] == [{f"v{number}": 100} for number in range(1, 31)]
    assert [move.from_ for move in moves] == [None, *(move.to for move in moves[:-1])]
    assert len(registry.history("default")) == 1


def test_the_same_digest_deployed_at_once_is_one_version(registry: Registry, record: Record) -> None:
    code = 'answer = [registry.deploy(f"{i}") for i in range(5)]\n'
    code += "answer = [(deployed.version.version, deployed.created) for deployed in answer]"

    answers = at_once(record, code, processes=3)

    registered = [pair for pairs in answers for pair in pairs]
    assert sorted(number for number, created in registered if created) == [1, 2, 3, 4, 5]
    assert all(len({number for number, _ in step}) == 1 for step in zip(*answers, strict=True))
    assert all(len(version.deploys) == 3 for version in list_versions(registry.database, project="default"))
