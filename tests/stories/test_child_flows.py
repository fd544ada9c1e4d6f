"""Flows that deployed flows start: executions on the same snapshot, cancelled and retried with their parents."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.stories.conftest import Place


def play(place: Place, scene: str, folder: Path, *options: str, expect: int = 0) -> dict[str, Any]:
    return place.invoke("family", json.dumps({"scene": scene, "folder": str(folder)}), *options, expect=expect)


def below(place: Place, exec_id: str) -> dict[str, Any]:
    """The only child of an execution."""
    (only,) = place("executions", "list", "--parent", exec_id).items
    return only


def until_there(path: Path) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} is not there"
        time.sleep(0.01)
    return path.read_text()


def is_alive(pid: int) -> bool:
    try:
        # A zombie that its parent has not reaped yet does nothing any more.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until_gone(pids: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(is_alive(int(pid)) for pid in pids.split()):
        assert time.monotonic() < deadline, f"of {pids} some live"
        time.sleep(0.01)


@pytest.mark.parametrize("scene", ["fan", "fan_async"])
def test_children_run_on_their_parent_s_snapshot(shared_place: Place, tmp_path: Path, scene: str) -> None:
    done = play(shared_place, scene, tmp_path)

    assert done["result"] == [0, 1, 4, 9, 16]
    parent = below(shared_place, done["exec_id"])
    rooms = shared_place("executions", "list", "--parent", parent["exec_id"]).items
    assert [room["result"] for room in reversed(rooms)] == done["result"]
    for execution in (parent, *rooms):
        assert (execution["kind"], execution["digest"], execution["version"]) == ("deployed", done["digest"], None)
    (shown,) = shared_place("executions", "get", done["exec_id"]).item["children"]
    assert shown == {"exec_id": parent["exec_id"], "flow": scene, "key": scene, "status": "completed"}
    assert parent["parent"] == done["exec_id"]


def test_a_runner_with_room_for_one_gets_through_a_family(place: Place, tmp_path: Path) -> None:
    (place.repository.root / "kitaru.toml").write_text("[runner]\nmax_executions = 1\n")

    assert play(place, "fan", tmp_path)["result"] == [0, 1, 4, 9, 16]
    assert play(place, "deep", tmp_path)["result"] == 14


def test_a_child_s_failure_is_the_same_in_a_process_of_its_own(shared_place: Place, tmp_path: Path) -> None:
    said = "KitaruUserCodeError because of LookupError('no luck')"

    assert play(shared_place, "catches", tmp_path)["result"] == said
    assert play(shared_place, "invokes", tmp_path)["result"] == said


def test_a_child_s_inputs_are_the_values_that_its_parent_gave(shared_place: Place, tmp_path: Path) -> None:
    assert play(shared_place, "typed", tmp_path)["result"] == ["tuple", "frozenset", [2, "b"]]


def test_a_flow_that_no_other_process_can_find_is_refused(shared_place: Place, tmp_path: Path) -> None:
    assert "flow inner is defined inside a function" in play(shared_place, "hidden", tmp_path)["result"]


def test_a_flow_s_own_retries_and_time_are_those_of_its_snapshot(shared_place: Place, tmp_path: Path) -> None:
    stubborn = play(shared_place, "stubborn", tmp_path)
    late = shared_place.settled(play(shared_place, "late", tmp_path, "--detach")["exec_id"], status="failed")

    assert stubborn["result"] == 3
    assert below(shared_place, stubborn["exec_id"])["attempt"] == 3
    failed = below(shared_place, late["exec_id"])
    assert (failed["status"], failed["error"]["type"], failed["error"]["origin"]) == (
        "failed", "KitaruTimeoutError", "runtime",
    )  # fmt: skip
    assert late["error"]["type"] == "KitaruExecutionError"


def test_the_options_of_a_flow_are_part_of_its_version(place: Place, tmp_path: Path) -> None:
    said = {}
    for name in ("stubborn", "late"):
        place.deploy(f"flows/family.py:{name}")
        said[name] = place("versions", "show", name).item["config"]["options"]

    inputs = json.dumps({"folder": str(tmp_path)})
    done, late = place.invoke("stubborn", inputs), place.invoke("late", inputs, "--detach")
    late = place.settled(late["exec_id"], status="failed")

    assert said == {"stubborn": {"retries": 2, "env": []}, "late": {"retries": 0, "finish_timeout": 0.3, "env": []}}
    assert (done["result"], done["attempt"]) == (3, 3)
    assert late["error"]["type"] == "KitaruTimeoutError"


# Cancelled


@pytest.mark.parametrize("scene", ["busy", "busy_async", "deaf"])
def test_a_cancellation_ends_the_processes_of_the_children_too(shared_place: Place, tmp_path: Path, scene: str) -> None:
    parent = play(shared_place, scene, tmp_path, "--detach")
    processes = until_there(tmp_path / "processes")

    cancelled = shared_place("executions", "cancel", parent["exec_id"], "--reason", "enough").item

    until_gone(processes)
    assert cancelled["status"] == "cancelled"
    assert cancelled["status_reason"].endswith(": enough")
    child = shared_place.settled(below(shared_place, parent["exec_id"])["exec_id"], status="cancelled")
    assert child["status_reason"].endswith(": enough, with its parent")
    assert [call["key"] for call in child["checkpoints"]] == ([] if scene == "busy_async" else ["square"])
    assert (tmp_path / "cleaned up").exists() == (scene == "busy_async")


def test_a_waiting_child_is_cancelled_with_its_parent(shared_place: Place, tmp_path: Path) -> None:
    parent = play(shared_place, "asks", tmp_path, "--detach")
    shared_place.settled(parent["exec_id"], status="waiting")
    child = shared_place.settled(below(shared_place, parent["exec_id"])["exec_id"], status="waiting")

    assert shared_place("executions", "cancel", parent["exec_id"]).item["status"] == "cancelled"

    assert shared_place("executions", "get", child["exec_id"]).item["status"] == "cancelled"
    assert shared_place("waits", "list", "--exec", child["exec_id"]).items == []


def test_an_answer_to_a_child_lets_its_parent_go_on(shared_place: Place, tmp_path: Path) -> None:
    parent = play(shared_place, "asks", tmp_path, "--detach")
    child = below_soon(shared_place, parent["exec_id"])
    shared_place.settled(child, status="waiting")
    shared_place.settled(parent["exec_id"], status="waiting")

    refused = shared_place("executions", "resume", parent["exec_id"], expect=4)
    assert child in refused.error["message"]
    shared_place("executions", "input", child, "--value", "true")

    assert shared_place.settled(parent["exec_id"])["result"] is True


def below_soon(place: Place, exec_id: str) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := place("executions", "list", "--parent", exec_id).items):
        assert time.monotonic() < deadline, "it started no child"
        time.sleep(0.05)
    return str(found[0]["exec_id"])


def test_a_version_stays_while_a_child_runs_on_its_snapshot(place: Place, tmp_path: Path) -> None:
    parent = play(place, "busy", tmp_path, "--detach")
    processes = until_there(tmp_path / "processes")
    place.repository.edit("flows/family.py", "no luck", "no luck at all")
    place.deploy("flows/family.py:family", "--tag", "default")

    refused = place("versions", "delete", "family@v1", expect=4)

    assert "2 executions of it have" in refused.error["message"]
    assert is_alive(int(processes.split()[0]))
    place("executions", "cancel", parent["exec_id"])
