"""`divergence = "strict"`: a resumed execution whose calls have other arguments fails, and can be let go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.stories.conftest import Place

FLOW = """
import os

from kitaru import checkpoint, flow, wait


@checkpoint
def note(process: int) -> str:
    return "noted"


@flow
def told() -> str:
    return note(os.getpid()) + str(wait(name="go", schema=int))
"""

STRICT = '[journal]\ndivergence = "strict"\n'


@pytest.mark.parametrize(("written", "status"), [("", "completed"), (STRICT, "failed")])
def test_other_arguments_in_a_resumed_execution(place: Place, written: str, status: str) -> None:
    """What holds is what the snapshot was deployed with, whatever the file says later."""
    flows, project = place.repository.root / "flows", place.repository.root / "kitaru.toml"
    (flows / "told.py").write_text(FLOW)
    before = project.read_text() if project.exists() else ""
    project.write_text(before + written)
    place.deploy("flows/told.py:told")
    project.write_text(before)
    waiting = place.invoke("told", expect=6)
    place("executions", "input", waiting["exec_id"], "--value", "7")
    ended = place.settled(waiting["exec_id"], status=status)

    if not written:
        assert ended["result"] == "noted7"
        return
    error = ended["error"]
    assert (error["origin"], error["checkpoint"]) == ("divergence", "note")
    assert error["message"].startswith("note was recorded with other arguments than it is called with now: process (")
    accepted = place("executions", "resume", ended["exec_id"], "--accept", "note", "--reason", "a pid").item
    assert (accepted["status"], accepted["result"]) == ("completed", "noted7")
