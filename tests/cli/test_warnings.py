"""A completed execution with warnings says so wherever it is spoken of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kitaru import KitaruClient
from kitaru.handle import FlowHandle
from kitaru_registry.executions.remarks import warnings_wanted

if TYPE_CHECKING:
    from tests.cli.conftest import Kitaru

FLOWS = """
from kitaru import checkpoint, flow

class Page:
    pass

@checkpoint(cache=True)
def draft(page: Page) -> str:
    return "About agents"

@checkpoint(cache=True)
def polish(page: Page) -> str:
    return "About agents."

@flow
def write(polished: bool = False) -> str:
    return polish(Page()) + draft(Page()) if polished else draft(Page())
"""


@pytest.fixture(autouse=True)
def flows(project: Path) -> None:
    (project / "flows.py").write_text(FLOWS)


def test_run_and_every_list_say_with_how_many(kitaru: Kitaru) -> None:
    ran = kitaru("run", "flows.py:write")
    exec_id = kitaru("executions", "list", "-o", "json").items[0]["exec_id"]

    assert ran.code == 0
    assert "completed, with 1 warning" in ran.err
    assert f"look at them: kitaru executions get {exec_id[-8:]}" in ran.err
    for command in (("list",), ("get", exec_id), ("logs", exec_id, "--follow")):
        done = kitaru("executions", *command)
        assert "completed, with 1 warning" in done.out + done.err, command
    assert "1 execution completed with warnings in the last 24 hours" in kitaru("status").out


def test_in_json_they_are_a_list_everywhere(kitaru: Kitaru) -> None:
    ran = kitaru("run", "flows.py:write", "--input", '{"polished": true}', "-o", "json").item

    said = ["draft", "polish"]
    for item in (
        ran,
        kitaru("executions", "list", "-o", "json").items[0],
        kitaru("executions", "get", ran["exec_id"], "-o", "json").item,
    ):
        assert sorted(warning.split()[1] for warning in item["warnings"]) == said
        assert item["status"] == "completed"
    assert kitaru("status", "-o", "json").item["warned"] == 1


def test_the_handle_has_them(kitaru: Kitaru, project: Path) -> None:
    exec_id = kitaru("run", "flows.py:write", "-o", "json").item["exec_id"]

    with KitaruClient(cwd=project) as client:
        handle = FlowHandle(client, exec_id, "write")

        assert [said.split(":")[0] for said in handle.warnings] == ["checkpoint draft is not cached"]
        assert client.executions.list()[0].warnings == handle.warnings


def test_without_warnings_nothing_is_said(kitaru: Kitaru, project: Path) -> None:
    (project / "flows.py").write_text(FLOWS.replace("cache=True", ""))

    said = kitaru("run", "flows.py:write").err + kitaru("executions", "list").out + kitaru("status").out

    assert "with 1 warning" not in said
    assert "with warnings" not in said


def test_they_are_found_by_an_index_and_not_by_reading_a_journal(project: Path) -> None:
    with KitaruClient(cwd=project) as client, client.database.read() as connection:
        for rows in ([1], [1, 2, 3]):
            wanted = warnings_wanted(rows).compile(connection, compile_kwargs={"literal_binds": True})
            plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {wanted}")]
            assert "INDEX journal_remarks" in plan[0], plan
