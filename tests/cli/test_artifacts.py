"""`kitaru artifacts`, `executions delete` and `gc` as people and scripts use them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Kitaru, Register

FLOWS = """
from kitaru import checkpoint, flow, save

@checkpoint
def research(topic: str) -> str:
    save("notes", [1, 2], type="context", tags=["raw"])
    return f"a long text about {topic}"

@checkpoint
def draft(text: str) -> dict[str, str]:
    return {"text": text}

@flow
def review(topic: str) -> dict[str, str]:
    return draft(research(topic))
"""


@pytest.fixture
def exec_id(kitaru: Kitaru, project: Path) -> str:
    (project / "flows.py").write_text(FLOWS)
    done = kitaru("run", "flows.py:review", "--input", '{"topic": "tea"}', "-o", "json")
    assert done.code == 0, done.err
    return str(done.item["exec_id"])


def test_artifacts_are_listed_for_an_execution_and_across_all(kitaru: Kitaru, exec_id: str) -> None:
    of_one = kitaru("artifacts", "list", exec_id[-8:], "-o", "json")
    of_all = kitaru("artifacts", "list", "--tag", "raw", "--since", "1h", "-o", "json")
    text = kitaru("artifacts", "list", exec_id)

    assert [a["name"] for a in of_one.items] == ["research", "notes", "draft", "result"]
    assert [a["artifact_id"] for a in of_all.items] == [f"{exec_id}/research:notes"]
    assert f"{exec_id[-8:]}/research:notes" in text.out
    assert kitaru("artifacts", "list", exec_id, "--flow", "review").code == 2
    assert kitaru("artifacts", "list", "--kind", "saved").code == 2
    assert kitaru("artifacts", "list", "--name", "nothing").out == "No artifacts.\n"


def test_an_artifact_is_shown_with_its_value(kitaru: Kitaru, exec_id: str) -> None:
    shown = kitaru("artifacts", "show", f"{exec_id[-8:]}/draft", "-o", "json")
    text = kitaru("artifacts", "show", f"{exec_id[-8:]}/draft")

    assert shown.item["value"] == {"text": "a long text about tea"}
    assert shown.item["digest"].startswith("sha256:")
    assert '"text": "a long text about tea"' in text.out
    assert kitaru("artifacts", "show", f"{exec_id}/nothing", "-o", "json").error["hint"] == (
        f"kitaru artifacts list {exec_id}"
    )


def test_a_list_that_is_cut_says_so(kitaru: Kitaru, exec_id: str) -> None:
    for command, option in (
        (("artifacts", "list", exec_id, "-n", "2"), "--limit N"),
        (("artifacts", "list", "-n", "4"), "--limit N"),
        (("executions", "list", "-n", "1"), "--limit N"),
        (("executions", "list", "--page", "1", "--size", "1"), "--page 2"),
    ):
        assert f"are shown, there may be more: {option}\n" in kitaru(*command).err
        assert kitaru(*command, "-o", "json").err == ""
    assert kitaru("artifacts", "list", exec_id).err == kitaru("executions", "list").err == ""


def test_what_an_error_names_is_shown_and_not_obeyed(kitaru: Kitaru, exec_id: str) -> None:
    told = kitaru("artifacts", "show", f"{exec_id}/\x1b]0;title\x07")

    assert told.code == 3
    assert "has no artifact \\x1b]0;title\\x07" in told.err


def test_an_artifact_is_downloaded_once(kitaru: Kitaru, exec_id: str, project: Path) -> None:
    first = kitaru("artifacts", "download", f"{exec_id}/research", "-o", "json")
    second = kitaru("artifacts", "download", f"{exec_id}/research")
    third = kitaru("artifacts", "download", f"{exec_id}/research", "--to", "research.txt", "--force")

    assert (first.item["path"], (project / "research.txt").read_text()) == ("research.txt", "a long text about tea")
    assert (second.code, third.code) == (4, 0)
    assert "--force replaces it" in second.err


def test_lineage_is_a_tree(kitaru: Kitaru, exec_id: str) -> None:
    up = kitaru("artifacts", "lineage", f"{exec_id}/draft")
    down = kitaru("artifacts", "lineage", f"{exec_id}/research", "--down", "-o", "json")

    assert f"└─ {exec_id[-8:]}/research  review source  str 21 B" in up.out
    (link,) = down.item["links"]
    assert (link["ref"], link["links"][0]["relation"]) == (f"{exec_id}/draft", "same bytes")
    assert "made from nothing recorded" in kitaru("artifacts", "lineage", f"{exec_id}/research").out


def test_a_deletion_is_asked_for_and_shown_first(kitaru: Kitaru, exec_id: str) -> None:
    neither = kitaru("executions", "delete")
    both = kitaru("executions", "delete", exec_id, "--flow", "review")
    unasked = kitaru("executions", "delete", exec_id, "-o", "json")
    dry = kitaru("executions", "delete", "--flow", "review", "--dry-run", "-o", "json")

    assert (neither.code, both.code, unasked.code) == (2, 2, 2)
    assert "--yes" in unasked.error["hint"]
    assert dry.item == {"exec_ids": [exec_id], "dry_run": True}
    assert kitaru("artifacts", "list", exec_id).code == 0, "nothing was deleted"

    done = kitaru("executions", "delete", "--flow", "review", "--status", "completed", "--since", "1h", "--yes")

    assert done.out.startswith("Deleted 1 execution; ")
    gone = kitaru("executions", "get", exec_id)
    assert "deleted by ada@analytical" in gone.out
    assert "result" not in gone.out
    assert kitaru("artifacts", "list", exec_id).code == 3
    assert kitaru("executions", "delete", "--before", "0s", "--yes").out == "Nothing to delete.\n"


def test_a_dry_run_refuses_what_the_deletion_would(kitaru: Kitaru, exec_id: str, project: Path) -> None:
    (project / "asking.py").write_text(
        "from kitaru import flow, wait\n@flow\ndef asking():\n    return wait(name='approve', schema=bool)\n"
    )
    waiting = kitaru("run", "asking.py:asking", "-o", "json").item["exec_id"]

    told = kitaru("executions", "delete", exec_id, waiting, "--dry-run", "-o", "json")

    assert (told.code, told.error["message"]) == (
        4, f"execution {waiting} is waiting: only an ended one can be deleted",
    )  # fmt: skip
    kitaru("executions", "cancel", waiting)
    kitaru("executions", "delete", exec_id, "--yes")
    assert kitaru("executions", "delete", exec_id, "--yes").out == "Nothing to delete.\n"
    assert kitaru("executions", "delete", exec_id, "--dry-run").out == "Nothing to delete.\n"


def test_gc_says_what_it_did(kitaru: Kitaru, exec_id: str) -> None:
    done = kitaru("gc", "-o", "json")

    assert (done.item["expired"], done.item["values"], done.item["left"]) == (0, 0, [])
    assert kitaru("gc").out == "Deleted 0 expired executions; 0 files of values, 0 B\n"


def test_times_and_statuses_that_are_none_are_refused(kitaru: Kitaru, register: Register) -> None:
    register("review", versions=1)

    for option, value in (("--before", "soon"), ("--status", "running")):
        refused = kitaru("executions", "delete", option, value, "-o", "json")
        assert (refused.code, option in refused.error["message"]) == (2, True)
