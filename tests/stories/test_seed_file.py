"""The seed's own file: its last line runs the flow, and nothing guards it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.stories.conftest import Place

INPUT = '{"topic": "agents"}'


def test_it_was_deployed_without_running(place: Place) -> None:
    assert place("versions", "show", "review_flow@v1").item["tags"] == ["default"]
    assert place("executions", "list").items == []
    assert not list(place.home.code.resolve().rglob("researched.txt"))
    assert not list(place.repository.root.rglob("researched.txt"))


def test_deployed_it_gives_rejected_for_false_and_the_text_for_true(place: Place) -> None:
    waiting = [place.invoke("review_flow", INPUT, expect=6) for _ in range(2)]
    assert [wait["key"] for execution in waiting for wait in execution["pending_waits"]] == ["approve_draft"] * 2

    rejected = place.answer(waiting[0]["exec_id"], "false")
    published = place.answer(waiting[1]["exec_id"], "true")

    assert rejected["result"] == "Rejected"
    assert published["result"] == "# agents\nWhat they are: agents\nWhy they matter"
    assert [call["key"] for call in published["checkpoints"]] == ["research", "write"]
    assert [call["attempts"] for call in published["checkpoints"]] == [1, 1]
