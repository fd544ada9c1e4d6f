"""What people read: at 80 columns, coloured where they see colours, and never steered by what was stored."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import timedelta

import pytest

from kitaru_cli import execution_text, home, project, tables, tags, versions, waits
from kitaru_cli.tables import Facts, Part, Styled, Table, show
from kitaru_cli.words import now
from kitaru_registry import models

NOW = now()
DIGEST = models.Digest("sha256:" + "3fa9" * 16)
EXEC_ID = models.ExecutionId("01937c3e-8a2b-7c11-9d2e-5b7a3f2a91c4")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")


def on_a_terminal(parts: Sequence[Part]) -> str:
    terminal = Terminal()
    show(parts, terminal)
    return terminal.getvalue()


def in_a_pipe(parts: Sequence[Part]) -> str:
    pipe = io.StringIO()
    show(parts, pipe)
    return pipe.getvalue()


def error() -> models.ErrorDetail:
    return models.ErrorDetail(
        type="ValueError",
        message="topic is [empty]",
        origin="user_code",
        checkpoint="map[3]/research",
        file="flows/review.py",
        line=12,
    )


def wait() -> models.Wait:
    return models.Wait(
        key="approve",
        name="approve",
        question="Publish these notes of the release, all forty-two pages of them, to everybody?",
        schema_={"type": "boolean"},
        metadata={"pages": 42},
        entered_at=NOW - timedelta(hours=2),
        deadline=None,
        exec_id=EXEC_ID,
        flow="release_notes",
    )


def execution(status: str = "completed", **changes: object) -> models.Execution:
    found = models.Execution(
        exec_id=EXEC_ID,
        project="default",
        kind="deployed",
        flow="release_notes",
        version=12,
        digest=DIGEST,
        tag="production",
        status=status,
        inputs={"topic": "what durable agents cost in practice, when nobody looks after them for weeks"},
        result="Published",
        error=None,
        attempt=2,
        created_at=NOW - timedelta(minutes=3),
        started_at=NOW - timedelta(minutes=3),
        ended_at=NOW - timedelta(minutes=1),
        actor="ada@analytical",
        checkpoints=(call("research", "completed"), call("map[3]/draft_section_of_the_report#2", "failed")),
        metadata={"topic": "agents"},
    )
    return found.model_copy(update=changes)


def call(key: str, status: str) -> models.CheckpointCall:
    return models.CheckpointCall(
        key=key,
        name=key,
        status=status,
        attempts=3,
        started_at=NOW - timedelta(seconds=90),
        ended_at=NOW - timedelta(seconds=88),
        error=error() if status == "failed" else None,
    )


def move(**changes: object) -> models.TagMove:
    found = models.TagMove(
        project="default",
        flow="review_flow",
        tag="stable",
        from_={"v3": 100},
        to={"v4": 100},
        actor="ada@analytical",
        reason="the canary was fine for a whole week",
        commit="3f2a1b0c9d",
        at=NOW - timedelta(days=2),
    )
    return found.model_copy(update=changes)


def version() -> models.VersionDetail:
    git = models.GitFacts(commit="3f2a1b0c9d", branch="feature/longer-notes", dirty=True)
    return models.VersionDetail(
        project="default",
        flow="review_flow",
        version=3,
        digest=DIGEST,
        created_at=NOW - timedelta(days=2),
        tags=("canary", "default", "stable"),
        config=models.SnapshotConfig(
            flow="review_flow",
            entrypoint="flows/review.py:review_flow",
            options=models.FlowOptions(retries=2, env=("OPENAI_API_KEY",)),
            input_schema={
                "properties": {"topic": {"type": "string"}, "tone": {"enum": ["dry", "warm"], "default": "dry"}},
                "required": ["topic"],
            },
            output_schema=None,
            python="3.11",
            platform="linux-x86_64",
            protocol=1,
            codec=1,
            kitaru="0.1.0",
            code=DIGEST,
            lock=DIGEST,
            wheels={"a.whl": DIGEST},
        ),
        deploys=(
            models.DeployEvent(at=NOW, actor="ci@build", git=git, created=False),
            models.DeployEvent(at=NOW - timedelta(days=2), actor="ada@analytical", git=None, created=True),
        ),
    )


def deployed(**changes: object) -> models.Deployed:
    found = models.Deployed(
        project="default",
        flow="review_flow",
        version=4,
        digest=DIGEST,
        created=True,
        tags=(),
        git=models.GitFacts(commit="3f2a1b0c9d", branch="main", dirty=False),
        blobs=models.BlobCounts(total=12, new=2, bytes_total=4_200_000, bytes_new=14_200),
        changed=("code: flows/review.py", "wheel: httpx 0.28.1"),
    )
    return found.model_copy(update=changes)


def flow() -> models.FlowSummary:
    routes = {"default": {"v1": 100}, "stable": {"v3": 100}, "canary": {"v3": 90, "v4": 10}}
    return models.FlowSummary(
        project="default", flow="release_notes", versions=4, latest=4, tags=routes, created_at=NOW
    )


def state() -> models.TagState:
    return models.TagState(
        project="default",
        flow="release_notes",
        tag="production",
        routes={"v3": 90, "v4": 10},
        frozen=True,
        moved_at=NOW,
        actor="ada@analytical",
    )


def runner(**changes: object) -> models.RunnerState:
    found = models.RunnerState(
        running=True, pid=4711, started_at=NOW, executions=(EXEC_ID,), home="/home/ada/.kitaru", version="0.1.0"
    )
    return found.model_copy(update=changes)


def status() -> models.HomeStatus:
    return models.HomeStatus(
        home="/home/ada/.kitaru",
        project="default",
        flows=(flow(),),
        running=1,
        waiting=2,
        pending=0,
        overdue=1,
        runner=runner(),
    )


EVERY_STATUS = ("running", "waiting", "pending", "failed", "cancelled", "completed")
TABLES_AND_FACTS = {
    "executions": execution_text.executions_text([execution(word) for word in EVERY_STATUS]),
    "execution": execution_text.execution_text(execution("failed", error=error())),
    "history": tags.history_text([move(), move(from_=None)]),
    "tags": tags.states_text([state()]),
    "flows": versions.flows_text([flow()]),
    "versions": versions.versions_text([version()]),
    "version": versions.version_text(version()),
    "waits": waits.waits_text([wait()]),
    "status": home.status_text(status()),
    "runner": home.runners_text([runner()]),
    "deployed": project.deployed_text(deployed()),
}
CODE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("name", TABLES_AND_FACTS)
def test_what_is_printed_fits_80_columns_and_loses_nothing(name: str) -> None:
    printed = on_a_terminal(TABLES_AND_FACTS[name])

    assert [line for line in CODE.sub("", printed).splitlines() if len(line) > 80] == []
    assert "…" not in printed


@pytest.mark.parametrize("name", TABLES_AND_FACTS)
def test_colours_are_for_terminals_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = TABLES_AND_FACTS[name]
    coloured, piped = on_a_terminal(parts), in_a_pipe(parts)
    monkeypatch.setenv("NO_COLOR", "1")

    # NO_COLOR speaks of colours; bold is none (no-color.org).
    assert re.findall(r"\x1b\[(?!0m|1m)[0-9;]*m", on_a_terminal(parts)) == []
    assert "\x1b" not in piped
    assert "\x1b" in coloured


def test_the_status_of_an_execution_has_its_colour() -> None:
    printed = on_a_terminal(execution_text.executions_text([execution("failed")]))

    assert "\x1b[31mfailed" in printed


@pytest.mark.parametrize("name", TABLES_AND_FACTS)
def test_no_line_ends_in_blanks(name: str) -> None:
    parts = TABLES_AND_FACTS[name]

    for printed in (CODE.sub("", on_a_terminal(parts)), in_a_pipe(parts)):
        assert [line for line in printed.splitlines() if line != line.rstrip()] == []


def test_a_pipe_gets_one_line_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")

    printed = in_a_pipe(waits.waits_text([wait()]))

    assert len(printed.splitlines()) == 2
    assert "all forty-two pages of them, to everybody?" in printed


@pytest.mark.parametrize("name", TABLES_AND_FACTS)
def test_without_rich_a_pipe_gets_what_rich_would_draw(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = TABLES_AND_FACTS[name]
    monkeypatch.delenv("COLUMNS")
    without_rich = in_a_pipe(parts)

    assert tables.plain_lines(parts) == without_rich.splitlines()
    monkeypatch.setattr(tables, "plain_lines", lambda _: None)
    assert in_a_pipe(parts) == without_rich


@pytest.mark.parametrize(
    "cells", [("a", "b" * 999), ("ä", "b"), ("日本", "b"), ("a\tb", " c "), ("", ""), ("a" * 500, "b" * 498)]
)
@pytest.mark.parametrize("right", [frozenset(), frozenset({"one"}), frozenset({"two"})])
def test_whatever_stands_in_a_table_rich_would_draw_it_so(
    cells: tuple[str, str], right: frozenset[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [Table(("one", "two", ""), [("x", "y", ""), (*cells, "")], right=right)]
    monkeypatch.delenv("COLUMNS")
    printed = in_a_pipe(parts)
    monkeypatch.setattr(tables, "plain_lines", lambda _: None)

    assert in_a_pipe(parts) == printed


def test_a_column_without_name_and_content_is_left_out() -> None:
    printed = in_a_pipe([Table(("a", "", "b"), [("1", "", "2")])])

    assert printed == "A  B\n1  2\n"


def test_a_terminal_that_is_too_narrow_loses_no_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")

    _, row, rest = in_a_pipe(execution_text.executions_text([execution()])).splitlines()

    assert row.split()[:5] == [EXEC_ID[-8:], "release_note", "v12", "(production)", "completed"]
    assert row.endswith("2m 00s")
    assert rest.strip() == "s"


def test_stored_text_is_shown_and_never_obeyed() -> None:
    stored = "[red]\x1b[31mx\x1b[0m :smile:"

    printed = in_a_pipe([stored, Styled(stored, "bold"), Facts((("a", stored),)), Table(("c",), [(stored,)])])

    assert "\x1b" not in printed
    assert printed.count("[red]\\x1b[31mx\\x1b[0m :smile:") == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "review_flow@stable: v3 -> v4\n"),
        ({"from_": None}, "review_flow@stable: v4, a new tag\n"),
        ({"moved": False}, "review_flow@stable is at v4 already\n"),
        ({"to": None, "kind": "delete"}, "review_flow@stable is deleted; it was at v3\n"),
    ],
)
def test_a_move_is_told_in_one_line(changes: dict[str, object], said: str) -> None:
    assert in_a_pipe(tags.move_text(move(**changes))) == said


def test_a_rollback_says_what_is_frozen_and_what_still_runs() -> None:
    printed = in_a_pipe(tags.move_text(move(to={"v2": 100}, kind="rollback", frozen=True, still_running=2)))

    assert "kitaru tag move review_flow@stable VERSION --release" in printed
    assert "2 executions of v3 still open: kitaru executions list --flow review_flow --version v3" in printed


def test_a_deploy_says_that_nothing_is_routed_to_it_yet() -> None:
    printed = in_a_pipe(project.deployed_text(deployed()))

    assert "blobs    2 new (14 KB), 10 shared (4.2 MB)" in printed
    assert "No tag points at it yet: kitaru tag move default v4 --flow review_flow" in printed


def test_a_deploy_of_the_same_bytes_says_so() -> None:
    printed = in_a_pipe(project.deployed_text(deployed(created=False, tags=("default",), changed=())))

    assert printed.startswith("review_flow v4 has these bytes already")
    assert "No tag" not in printed


def test_a_warning_is_shown() -> None:
    assert (
        in_a_pipe(project.warnings_text(deployed(warnings=("kitaru was dropped",)))) == "warning: kitaru was dropped\n"
    )


def test_a_child_on_its_parent_s_snapshot_is_named_by_that() -> None:
    child = execution(version=None, tag=None)

    assert execution_text.code_of(child) == DIGEST[:19]
    assert f"release_notes {DIGEST[:19]}" in in_a_pipe(execution_text.execution_text(child))
    assert execution_text.code_of(child.model_copy(update={"kind": "source"})) == "source"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "boolean"}, "true"),
        ({"type": "string"}, "'\"text\"'"),
        ({"enum": ["warm", "dry"]}, "'\"warm\"'"),
        ({"type": "object", "properties": {}}, "'{...}'"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "JSON"),
        ({}, "JSON"),
        (None, "null"),
    ],
)
def test_a_wait_shows_the_command_that_answers_it(schema: models.JsonSchema | None, value: str) -> None:
    asked = wait().model_copy(update={"schema_": schema})

    printed = in_a_pipe(execution_text.wait_parts(asked, EXEC_ID))

    assert printed.endswith(f"answer it: kitaru waits answer 3f2a91c4 approve --value {value}\n")


def test_a_failure_shows_the_users_traceback_and_the_place() -> None:
    failed = error().model_copy(update={"traceback": "Traceback (most recent call last):\nValueError: topic\n"})

    printed = in_a_pipe(execution_text.error_parts(failed))

    assert printed == (
        "Traceback (most recent call last):\nValueError: topic\nfailed in map[3]/research at flows/review.py:12\n"
    )


def test_a_failure_of_kitaru_s_own_shows_what_to_do() -> None:
    printed = in_a_pipe(execution_text.error_parts(error().model_copy(update={"hint": "await it"})))

    assert printed.endswith("\nhint:   await it\n")


@pytest.mark.parametrize(
    ("word", "code"),
    [("completed", 0), ("failed", 1), ("cancelled", 1), ("waiting", 6), ("running", 6), ("pending", 6)],
)
def test_the_exit_code_says_how_an_execution_stands(word: str, code: int) -> None:
    assert execution_text.exit_code(execution(word)) == code


def test_a_check_that_fails_shows_what_to_do() -> None:
    checks = [
        models.DoctorCheck(name="home", ok=True, message="fine", hint="unused"),
        models.DoctorCheck(name="uv", ok=False, message="not found", hint="pip install uv"),
    ]

    assert in_a_pipe(home.doctor_text(checks)) == "ok    home: fine\nFAIL  uv: not found\n      pip install uv\n"


def test_an_empty_home_says_how_to_begin() -> None:
    for parts in (versions.flows_text([]), versions.versions_text([]), tags.states_text([])):
        assert "kitaru deploy path.py:flow" in in_a_pipe(parts)
