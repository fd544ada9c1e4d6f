"""Options of flows mean what they say, in `@flow(...)` and in `.run(...)`; what cannot be meant is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from kitaru import KitaruExecutionError, KitaruTimeoutError, KitaruUsageError, KitaruUserCodeError, flow, testing

if TYPE_CHECKING:
    from tests.sdk.conftest import Project

FLOWS = """
def count(name):
    with Path(name).open("a") as file:
        file.write("x")
    return Path(name).stat().st_size

@checkpoint
def steady():
    return count("steady")

@checkpoint
def shaky(works_at: int):
    tries = count("shaky")
    if tries < works_at:
        raise ConnectionError(f"try {tries}")
    return tries

@flow(retries=2)
def stubborn(works_at: int):
    return steady(), shaky(works_at)

@flow
def plain(works_at: int):
    return steady(), shaky(works_at)

@checkpoint(cache=True)
def cached():
    return count("cached")

@checkpoint
def uncached():
    return count("uncached")

@flow
def as_each_says():
    return cached(), uncached()

@flow(cache=True)
def all_cached():
    return cached(), uncached()

@flow(finish_timeout=timedelta(seconds=0.2))
def late():
    count("late")
    while not Path("gate").exists():
        uncached()
    return "in time"

@flow(finish_timeout=3600, retries=5)
def late_at_a_wait():
    return wait(name="approve", schema=bool)

@flow(retries=3)
def cancelled_at_a_wait():
    return wait(name="approve", schema=bool)
"""


@pytest.fixture
def flows(project: Project) -> Any:
    return project.load("from datetime import timedelta\n" + FLOWS)


def size(project: Project, name: str) -> int:
    return (project.root / name).stat().st_size


# Retries


def test_a_failed_flow_begins_anew_and_keeps_what_is_recorded(flows: Any, project: Project) -> None:
    handle = flows.stubborn.run(3)

    assert handle.wait(30) == (1, 3)
    assert (size(project, "steady"), size(project, "shaky")) == (1, 3)
    assert project.client.executions.get(handle.exec_id).attempt == 3


def test_its_last_failure_is_raised(flows: Any, project: Project) -> None:
    with pytest.raises(KitaruUserCodeError, match="ConnectionError: try 3") as caught:
        flows.stubborn.run(4).wait(30)

    assert isinstance(caught.value.__cause__, ConnectionError)
    assert size(project, "shaky") == 3


def test_a_call_says_its_own_number_of_retries(flows: Any, project: Project) -> None:
    with pytest.raises(KitaruUserCodeError, match="try 1"):
        flows.stubborn.run(4, retries=0).wait(30)

    assert flows.plain.run(works_at=3, retries=1).wait(30) == (2, 3)
    assert size(project, "steady") == 2


def test_a_heartbeat_between_two_attempts_ends_neither(
    flows: Any, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kitaru import running

    monkeypatch.setattr(running, "BEAT_SECONDS", 0.0)
    monkeypatch.setattr(running, "ANSWER_POLL_SECONDS", 0.0)

    assert flows.plain.run(40, retries=50).wait(60) == (1, 40)


# Cache


def test_an_execution_s_cache_counts_for_all_of_its_checkpoints(flows: Any) -> None:
    assert flows.as_each_says.run().wait(30) == (1, 1)
    assert flows.as_each_says.run().wait(30) == (1, 2)
    assert flows.as_each_says.run(cache=False).wait(30) == (2, 3)
    # Recorded by the newest that had it in its cache.
    assert flows.all_cached.run(cache=None).wait(30) == (1, 4)
    assert flows.all_cached.run().wait(30) == (1, 4)


# Time to finish


def test_a_running_one_that_is_too_late_fails(flows: Any, project: Project) -> None:
    handle = flows.late.run()

    with pytest.raises(KitaruExecutionError, match=r"took longer than its finish_timeout of 0\.2 s") as caught:
        handle.wait(30)

    assert isinstance(caught.value.__cause__, KitaruTimeoutError)
    assert caught.value.failure_origin == "runtime"
    found = project.client.executions.get(handle.exec_id)
    assert (found.status, found.error.type if found.error else None) == ("failed", "KitaruTimeoutError")


def test_a_waiting_one_that_is_too_late_fails_and_is_not_retried(flows: Any) -> None:
    outcome = testing.run(flows.late_at_a_wait)

    assert isinstance(outcome.error, KitaruTimeoutError)
    assert (outcome.attempts, outcome.took) == (1, timedelta(hours=1))
    assert [wait.status for wait in outcome.waits] == ["closed"]


def test_a_cancellation_uses_up_no_retry(flows: Any, project: Project) -> None:
    handle = flows.cancelled_at_a_wait.run()
    handle.until_settled(30)

    assert handle.cancel().status == "cancelled"
    assert project.client.executions.get(handle.exec_id).attempt == 1


# Bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retries": -1}, "retries=-1 is not a number of them"),
        ({"retries": 1.5}, r"retries=1\.5 is not a number"),
        ({"retries": True}, "retries=True is not a number"),
        ({"cache": "yes"}, "cache='yes' is neither True nor False"),
        ({"finish_timeout": 0}, "finish_timeout=0 is no time"),
        ({"finish_timeout": timedelta(seconds=-1)}, "is no time"),
        ({"finish_timeout": "1h"}, "finish_timeout='1h' is no time"),
        ({"finish_timeout": 1e300}, "is no time"),
        ({"stack": "prod"}, "stack='prod': this release executes on this machine only"),
        ({"image": {"base_image": "python"}}, "image= has no meaning"),
        ({"image": "python:3.12"}, "image= has no meaning"),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_meant_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(KitaruUsageError, match=said):
        flow(**options)


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(KitaruUsageError, match="@flow has no option retry=") as near:
        flow(retry=2)  # type: ignore[call-overload]
    with pytest.raises(KitaruUsageError) as far:
        flow(colour="red")  # type: ignore[call-overload]

    assert near.value.hint == "did you mean retries=?"
    assert far.value.hint == "it has stack, image, cache, retries, finish_timeout"


def test_options_of_a_call_are_checked_before_it_starts_anything(flows: Any, project: Project) -> None:
    for options in ({"retries": -1}, {"image": "python"}, {"stack": "prod"}, {"cache": 1}):
        with pytest.raises(KitaruUsageError):
            flows.plain.run(1, **options)
        with pytest.raises(KitaruUsageError):
            flows.plain.deploy(**options)

    assert project.client.executions.list() == []
    assert project.client.deployments.flows() == []


def test_the_local_stack_is_where_it_executes_anyway(flows: Any) -> None:
    assert flows.plain.run(1, stack="local").wait(30) == (1, 1)


def test_a_parameter_with_an_option_s_name_is_given_by_position(project: Project) -> None:
    flows = project.load("@flow\ndef named(retries: str):\n    return retries\n")

    assert flows.named.run("a text", retries=1).wait(30) == "a text"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tags": {"stable": False}}, "a tag points at one version"),
        ({"tags": {"stable": True, "canary": True}}, "a deploy moves one tag, and these are stable, canary"),
        ({"tag": "a", "tags": {"b": True}}, "these are a, b"),
        ({"publish_default_on_first_deploy": False}, "always gets the tag default"),
    ],
)
def test_a_deploy_refuses_what_tags_cannot_be(flows: Any, project: Project, options: dict[str, Any], said: str) -> None:
    with pytest.raises(KitaruUsageError, match=said):
        flows.plain.deploy(**options)

    assert project.client.deployments.flows() == []
