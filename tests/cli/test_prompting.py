from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from enum import StrEnum

import pytest
from pydantic import BaseModel, Field

from kitaru_cli.prompting import ask
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
