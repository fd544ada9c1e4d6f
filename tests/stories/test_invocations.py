"""Story 3: what a reference means is resolved once, and an execution is pinned to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stories.conftest import Place

EXECUTION = {
    "exec_id", "kind", "flow", "version", "digest", "tag", "status", "inputs", "result", "error", "attempt",
    "created_at", "started_at", "ended_at", "actor", "checkpoints", "pending_waits",
}  # fmt: skip
"""The contract; the item says a little more."""
MORE = {
    "project", "status_reason", "metadata", "source", "parent", "children", "original_exec_id", "replay", "accepted",
    "deleted_at", "warnings", "process_gone",
}  # fmt: skip
CHECKPOINT = {"key", "name", "status", "attempts", "started_at", "ended_at"}
WAIT = {"key", "name", "question", "schema", "metadata", "entered_at", "deadline"}
INPUT = '{"topic": "agents"}'


def digest_of(place: Place, ref: str) -> str:
    return str(place("versions", "show", ref).item["digest"])


def test_an_execution_tells_scripts_everything(shared_place: Place) -> None:
    waiting = shared_place.invoke("review_flow", INPUT, expect=6, env={"KITARU_ACTOR": "ada@laptop"})
    done = shared_place.answer(waiting["exec_id"], "true")

    assert set(waiting) == set(done) == EXECUTION | MORE
    assert (waiting["kind"], waiting["flow"], waiting["version"]) == ("deployed", "review_flow", 1)
    assert (waiting["status"], waiting["tag"], waiting["actor"]) == ("waiting", "default", "ada@laptop")
    assert (waiting["inputs"], waiting["result"], waiting["ended_at"]) == ({"topic": "agents"}, None, None)
    assert waiting["digest"] == digest_of(shared_place, "review_flow@v1")
    (wait,) = waiting["pending_waits"]
    assert set(wait) >= WAIT
    assert (wait["key"], wait["question"], wait["schema"]) == ("approve_draft", "Publish this?", {"type": "boolean"})
    for call in done["checkpoints"]:
        assert set(call) >= CHECKPOINT
        assert call["started_at"] <= call["ended_at"]
    assert (done["error"], done["pending_waits"]) == (None, [])
    assert done["created_at"] < done["started_at"] < done["ended_at"]


def test_every_form_of_a_reference_means_its_version(place: Place, tmp_path: Path) -> None:
    place.repository.edit("flows/look.py", "Why no other", "If and why no other")
    first, second = digest_of(place, "connect"), place.deploy("flows/look.py:connect", "--tag", "stable")["digest"]
    assert first != second
    detached = {
        "connect": (1, "default", first),
        "connect@default": (1, "default", first),
        "connect@stable": (2, "stable", second),
        "connect@v1": (1, None, first),
        "connect@v2": (2, None, second),
        f"connect@{second}": (2, None, second),
        "default/connect@stable": (2, "stable", second),
        "connect --tag stable": (2, "stable", second),
        "connect --version 2": (2, None, second),
        "connect --version v1": (1, None, first),
    }

    # No runner is to take the time for them here.
    (tmp_path / "kitaru.toml").write_text("[runner]\nautostart = false\n")
    for form, expected in detached.items():
        found = place("invoke", *form.split(), "--detach", cwd=tmp_path).item
        assert (found["version"], found["tag"], found["digest"]) == expected, form
        assert found["status"] == "pending"

    # What was pending runs on what it meant, whatever the tags say by then.
    place("tag", "move", "connect@stable", "v1")
    newest = place("executions", "list", "--flow", "connect").items
    assert [execution["version"] for execution in reversed(newest)] == [meant[0] for meant in detached.values()]


def test_inputs_come_from_the_line_a_file_or_stdin(shared_place: Place, tmp_path: Path) -> None:
    (tmp_path / "inputs.json").write_text('{"topic": "from a file"}')
    given = {INPUT: "", f"@{tmp_path / 'inputs.json'}": "", "-": '{"topic": "from stdin"}'}

    topics = [
        shared_place("invoke", "review_flow", "--input", text, "--detach", stdin=stdin).item["inputs"]["topic"]
        for text, stdin in given.items()
    ]

    assert topics == ["agents", "from a file", "from stdin"]
    found = shared_place("executions", "list", "--where", "topic=from stdin").items
    assert [execution["inputs"] for execution in found] == [{"topic": "from stdin"}]


def test_an_idempotency_key_is_the_first_execution_whatever_the_tag_says_now(place: Place) -> None:
    first = place.invoke("review_flow", INPUT, "--idempotency-key", "order-1", expect=6)
    place.repository.edit("flows/review.py", "Why they matter", "How to begin")
    place.deploy("flows/review.py:review_flow", "--tag", "default")

    again = place.invoke("review_flow", INPUT, "--idempotency-key", "order-1", expect=6)
    other_input = place("invoke", "review_flow", "-i", '{"topic": "tea"}', "--idempotency-key", "order-1", expect=4)
    other_flow = place.invoke("connect", "{}", "--idempotency-key", "order-1", "--detach")
    other_key = place.invoke("review_flow", INPUT, "--idempotency-key", "order-2", "--detach")

    assert (again["exec_id"], again["version"]) == (first["exec_id"], 1)
    assert other_input.error["type"] == "KitaruConflictError"
    assert first["exec_id"] in other_input.error["message"] + str(other_input.error["hint"])
    assert other_flow["exec_id"] != first["exec_id"]
    assert other_key["version"] == 2


def test_exit_codes_say_how_it_ended(shared_place: Place) -> None:
    timed_out = shared_place.invoke("letter", "{}", "--timeout", "0", expect=6)
    detached = shared_place.invoke("letter", "{}", "--detach", expect=0)
    assert {timed_out["status"], detached["status"]} <= {"pending", "running"}

    shared_place.settled(timed_out["exec_id"], status="waiting")
    cancelled = shared_place("executions", "cancel", timed_out["exec_id"]).item
    shared_place.settled(detached["exec_id"], status="waiting")
    done = shared_place.answer(detached["exec_id"], "true")

    assert (cancelled["status"], done["status"]) == ("cancelled", "completed")
    assert shared_place("executions", "input", cancelled["exec_id"], "--value", "true", expect=4).error["message"]


WRONG = (
    ("reveiw_flow", 3, "review_flow"),
    ("review_flow@stabel", 3, "default"),
    ("review_flow@v7", 3, "v1"),
    ("team/review_flow", 3, "team"),
    ("review_flow@sha256:" + "0" * 64, 3, "sha256"),
    ("review_flow --input {topic", 2, "JSON"),
    ("review_flow --input []", 2, "object"),
    ("review_flow --input {}", 2, "topic"),
    ('review_flow --input {"topic":"x","topik":1}', 2, "topik"),
    ('review_flow --input {"topic":1}', 2, "string"),
    ("review_flow --input @nowhere.json", 3, "nowhere.json"),
    ("review_flow@v1 --tag stable", 2, "stable"),
)


def test_a_wrong_invocation_is_one_clear_error_and_starts_nothing(place: Place) -> None:
    for arguments, exit_code, named in WRONG:
        refused = place("invoke", *arguments.split(), expect=exit_code)

        assert refused.stdout == "", arguments
        assert set(refused.error) == {"type", "message", "hint"}, arguments
        assert named in f"{refused.error['message']} {refused.error['hint']}", arguments

    assert place("executions", "list").items == []
