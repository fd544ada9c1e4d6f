"""What a replay makes of recorded outcomes: pickled, large, guarded, kept, cached, and of types of the flow's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from replays import completed, failed, ran, record, reused

from kitaru_registry.errors import KitaruConflictError

if TYPE_CHECKING:
    from tests.sdk.conftest import Project


def test_a_value_that_another_python_pickled_is_refused_before_anything_is_made(project: Project) -> None:
    flows = project.load(
        "@checkpoint\ndef give():\n    return {1: object()}\n\n@checkpoint\ndef take(value):\n    return 1\n\n"
        "@flow\ndef hand():\n    return take(give())\n"
    )
    original = completed(flows.hand.run())
    assert flows.hand.replay(original, from_="take").wait(60) == 1
    with project.client.database.write() as connection:
        connection.exec_driver_sql("UPDATE journal SET codec = 'pickle-3.2' WHERE key = 'give'")

    with pytest.raises(KitaruConflictError, match=r"the value of give was pickled by Python 3\.2") as caught:
        flows.hand.replay(original, from_="take")

    assert "--from give" in str(caught.value.hint)
    assert len(project.client.executions.list()) == 2


def test_large_values_and_what_was_saved_are_there_in_the_replay(project: Project) -> None:
    flows = project.load(
        '@checkpoint\ndef large():\n    save("small", "words")\n    return "x" * 100_000\n\n'
        "@checkpoint\ndef count(text):\n    return len(text)\n\n@flow\ndef measure():\n    return count(large())\n"
    )
    original = completed(flows.measure.run())

    handle = flows.measure.replay(original, from_="count")

    assert handle.wait(60) == 100_000
    assert project.client.load(handle.exec_id, "small") == "words"


GUARDED = """
@checkpoint(replay="never")
def charge(cents):
    save("receipt", f"a receipt for {cents}")
    return f"charged {cents} cents"

@checkpoint
async def add(number):
    return number + 1

@flow
def pay(cents: int):
    return charge(cents) if wait(name="approve", schema=bool) else "refused"

@flow
def pay_beside(cents: int):
    return charge.submit(cents).result() if wait(name="approve", schema=bool) else "refused"
"""


@pytest.mark.parametrize("name", ["pay", "pay_beside"])
def test_what_was_kept_is_the_replay_s_where_the_flow_comes_to_it(project: Project, name: str) -> None:
    pay = getattr(project.load(GUARDED), name)
    original = pay.run(500)
    original.until_settled(60)
    project.client.executions.input(original.exec_id, value=True)
    original.wait(60)

    refused = pay.replay(original.exec_id, overrides={"wait.approve": False})
    approved = pay.replay(original.exec_id, overrides={"wait.approve": True})

    assert (refused.wait(60), approved.wait(60)) == ("refused", "charged 500 cents")
    assert list(reused(record(project, refused)).values()) == []
    assert list(reused(record(project, approved)).values()) == [True]
    artifacts = project.client.artifacts
    assert [found.name for found in artifacts.list(refused.exec_id)] == ["approve", "result"]
    assert {"charge", "receipt"} < {found.name for found in artifacts.list(approved.exec_id)}
    diff = project.client.executions.diff(original.exec_id, refused.exec_id)
    assert [call.change for call in diff.calls] == ["changed", "removed"]
    assert project.client.executions.diff(original.exec_id, approved.exec_id).is_same


def test_a_replay_of_a_replay_keeps_what_that_one_only_kept(project: Project) -> None:
    pay = project.load(GUARDED).pay
    original = pay.run(500)
    original.until_settled(60)
    project.client.executions.input(original.exec_id, value=True)
    original.wait(60)
    refused = pay.replay(original.exec_id, overrides={"wait.approve": False})
    refused.wait(60)

    again = pay.replay(refused.exec_id, overrides={"wait.approve": True})

    assert again.wait(60) == "charged 500 cents"
    assert reused(record(project, again)) == {"charge": True}


MODELS = """
from enum import Enum

class Tone(Enum):
    DRY = "dry"

@checkpoint
def tone():
    return Tone.DRY

@flow
def toned():
    return tone().value
"""


def test_an_override_that_is_none_of_the_recorded_type_is_named(project: Project) -> None:
    toned = project.load(MODELS).toned
    original = completed(toned.run())

    handle = toned.replay(original, overrides={"checkpoint.tone": "WARM"})

    failed(handle)
    error = record(project, handle).error
    assert error is not None
    assert (error.type, error.message) == (
        "KitaruUsageError", "what was given for checkpoint.tone does not fit: KeyError: 'WARM'",
    )  # fmt: skip


CACHED = """
def ran(what):
    with open("ran", "a") as file:
        file.write(what + " ")

@checkpoint(cache=True)
def fetch(page):
    ran(f"fetch:{page}")
    return f"page {page}"

@flow
def fetched():
    return [fetch(1), fetch(2)]
"""


def test_the_call_that_a_replay_begins_at_is_taken_from_no_cache(project: Project) -> None:
    fetched = project.load(CACHED).fetched
    original = completed(fetched.run())
    assert ran(project) == ["fetch:1", "fetch:2"]

    fetched.replay(original, from_="fetch").wait(60)

    assert ran(project) == ["fetch:1"]  # what follows is the very same call, which the cache may answer
