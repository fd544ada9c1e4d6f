"""What a deployed flow is promised beside plain checkpoints: own processes, reuse, times, several questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kitaru import KitaruClient

if TYPE_CHECKING:
    from tests.stories.conftest import Place

FLOW = """
import os
import signal
from datetime import timedelta
from pathlib import Path

from kitaru import KitaruWaitTimeout, checkpoint, flow, now, sleep, wait, wait_any

HERE = Path("HOME")


def ran(what: str) -> None:
    with (HERE / "ran").open("a") as file:
        file.write(what + " ")


@checkpoint(runtime="isolated", retries=1)
def apart(name: str) -> int:
    ran("apart")
    if not (HERE / "killed").exists():
        (HERE / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@checkpoint(cache=True)
def costly(name: str) -> str:
    ran("costly")
    return name.upper()


@flow
def reuse(name: str) -> dict[str, object]:
    return {"value": costly(name), "apart": apart(name) != os.getpid()}


@flow
def asks() -> list[object]:
    first = wait_any({"name": "lead", "schema": bool}, {"name": "manager", "schema": bool})
    then = wait(name="amount", schema=int)
    late = wait(name="never", schema=str, timeout=timedelta(milliseconds=300), default="nobody")
    try:
        wait(name="nor_this", schema=str, timeout=0.3)
    except KitaruWaitTimeout as error:
        return [first.name, first.value, then, late, type(error).__name__]
    return []


@flow
def naps() -> bool:
    before = now()
    sleep(7)
    return now() - before >= timedelta(seconds=7)
"""


@pytest.fixture(scope="module")
def engine(shared_place: Place) -> Place:
    (shared_place.repository.root / "flows" / "engine.py").write_text(FLOW.replace("HOME", str(shared_place.home.root)))
    for flow in ("reuse", "asks", "naps"):
        shared_place.deploy(f"flows/engine.py:{flow}")
    return shared_place


def result(execution: dict[str, Any]) -> Any:
    return execution["result"]


def test_a_process_of_its_own_dies_alone_and_a_value_is_reused_by_the_next_execution(engine: Place) -> None:
    first = engine.invoke("reuse", '{"name": "ada"}')
    second = engine.invoke("reuse", '{"name": "ada"}')

    assert result(first) == result(second) == {"value": "ADA", "apart": True}
    assert (engine.home.root / "ran").read_text().split() == ["costly", "apart", "apart", "apart"]
    (apart,) = [call for call in first["checkpoints"] if call["key"] == "apart"]
    assert apart["attempts"] == 2
    assert first["attempt"] == second["attempt"] == 1


def test_one_of_several_questions_an_early_answer_and_two_that_expire(engine: Place) -> None:
    waiting = engine.invoke("asks", expect=6)
    assert {wait["name"] for wait in waiting["pending_waits"]} == {"lead", "manager"}

    engine("executions", "input", waiting["exec_id"], "--wait", "amount", "--value", "12")
    engine("executions", "input", waiting["exec_id"], "--wait", "wait_any/manager", "--value", "true")
    done = engine.settled(waiting["exec_id"])

    assert result(done) == ["manager", True, 12, "nobody", "KitaruWaitTimeout"]


def test_a_long_sleep_holds_no_process(engine: Place) -> None:
    sleeping = engine.invoke("naps", "{}", "--detach")
    waiting = engine.settled(sleeping["exec_id"], status="waiting")
    done = engine.settled(waiting["exec_id"])

    assert (result(done), done["attempt"]) == (True, 2)


def test_whoever_waits_for_a_sleeper_sees_to_its_time(engine: Place) -> None:
    sleeping = engine.invoke("naps", "{}", "--detach")
    engine.settled(sleeping["exec_id"], status="waiting")
    engine.stop()

    assert KitaruClient(engine.home).executions.handle(sleeping["exec_id"]).wait(60) is True
