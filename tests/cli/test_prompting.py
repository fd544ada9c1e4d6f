from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from kitaru import KitaruClient
from kitaru_cli.prompting import ask
from kitaru_registry.home import Home
from kitaru_registry.models import JsonSchema


class Tone(StrEnum):
    dry = "dry"
    warm = "warm"


class Verdict(BaseModel):
    approved: bool
    tone: Tone
    words: int = Field(default=100, description="at most")


class Nested(BaseModel):
    verdicts: list[Verdict]


Type = Callable[..., None]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Type:
    def lines(*typed: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in typed)))

    return lines


@pytest.mark.parametrize(
    ("schema", "lines", "value"),
    [
        ({"type": "boolean"}, ["y"], True),
        ({"type": "boolean"}, ["perhaps", "n"], False),
        ({"type": "string"}, ["true"], "true"),
        ({"type": "integer"}, ["3.5", "three", "true", "3"], 3),
        ({"type": "number"}, ["3.5"], 3.5),
        ({"type": "integer", "default": 7}, [""], 7),
        ({"enum": ["dry", "warm"]}, ["cold", "warm"], "warm"),
        ({"enum": ["dry", "warm"]}, ["1"], "dry"),
        ({"enum": [1, 2, None]}, ["null"], None),
        ({"type": "array"}, ["[1", "[1]"], [1]),
        ({}, ['{"a": 1}'], {"a": 1}),
    ],
)
def test_the_answer_has_the_type_that_the_schema_asks_for(
    typed: Type, schema: JsonSchema, lines: list[str], value: object
) -> None:
    typed(*lines)

    answer = ask(schema, "Publish?", name="verdict")

    assert answer == value
    assert type(answer) is type(value)


def test_a_number_that_is_a_choice_is_preferred_to_its_place(typed: Type) -> None:
    typed("2")

    assert ask({"enum": [2, 1]}, "How many?", name="verdict") == 2


def test_an_object_is_asked_for_field_by_field(typed: Type) -> None:
    typed("y", "warm", "y", "20")

    answer = ask(Verdict.model_json_schema(), "Publish?", name="verdict")

    assert Verdict.model_validate(answer) == Verdict(approved=True, tone=Tone.warm, words=20)


def test_an_optional_field_can_be_left_out(typed: Type) -> None:
    typed("n", "dry", "")

    assert ask(Verdict.model_json_schema(), "Publish?", name="verdict") == {"approved": False, "tone": "dry"}


def test_an_object_of_objects_is_asked_for_as_json(typed: Type) -> None:
    value = {"verdicts": [{"approved": True, "tone": "dry"}]}
    typed(json.dumps(value))

    assert ask(Nested.model_json_schema(), "Publish?", name="verdict") == value


def test_a_go_ahead_is_given_with_the_enter_key(typed: Type, capsys: pytest.CaptureFixture[str]) -> None:
    typed("")

    assert ask(None, "Publish?", name="verdict") is None
    assert capsys.readouterr().err == "Publish? [Enter to go on]: "


def test_a_long_question_is_shown_whole_before_the_prompt(typed: Type, capsys: pytest.CaptureFixture[str]) -> None:
    typed("y")

    ask({"type": "boolean"}, "Publish?\n\n# A draft\x1b[2J", name="approve")

    assert capsys.readouterr().err == "Publish?\n\n# A draft\\x1b[2J\napprove [y/n]: "


def test_prompts_leave_stdout_alone(typed: Type, capsys: pytest.CaptureFixture[str]) -> None:
    typed("y")

    ask({"type": "boolean"}, "Publish?", name="verdict")

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Publish?" in captured.err


FLOWS = """
from kitaru import flow, wait, wait_any

@flow
def ask() -> list:
    first = wait_any(dict(name="lead", schema=bool), dict(name="boss", schema=int))
    wait(name="gate", question="Go on?")
    return [first.value, wait(name="late", schema=str)]
"""


def test_a_terminal_is_asked_for_what_is_open_and_no_longer(home: Home, tmp_path: Path) -> None:
    """The other question of the wait_any is not asked, and one that somebody else answers is asked no more."""
    (tmp_path / "flows.py").write_text(FLOWS)
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "kitaru_cli", "run", "flows.py:ask"]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=terminal, stderr=terminal, stdout=subprocess.PIPE)
    os.close(terminal)
    shown = ""
    for prompt, line in (("lead [y/n]: ", "y"), ("Go on? [Enter to go on]: ", ""), ("late: ", None)):
        while not shown.endswith(prompt):
            shown += os.read(main, 1000).decode()
        if line is not None:
            os.write(main, f"{line}\n".encode())
            shown += os.read(main, len(line) + 2).decode()

    client = KitaruClient(home)
    client.executions.input(client.executions.list()[0].exec_id, wait="late", value="in time")
    told, _ = process.communicate(timeout=60)

    assert json.loads(told) == [True, "in time"]
    assert "boss" not in shown
    assert "late is not to be answered any more" in os.read(main, 1000).decode()
    os.close(main)
