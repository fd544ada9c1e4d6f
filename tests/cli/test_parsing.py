from __future__ import annotations

import io
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kitaru_cli import parsing
from kitaru_registry.errors import KitaruNotFoundError, KitaruUsageError

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_inputs_come_from_the_command_line() -> None:
    assert parsing.json_inputs('{"topic": "agents"}') == {"topic": "agents"}


def test_inputs_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "in.json"
    file.write_text('{"topic": "Grüße"}', encoding="utf-8")

    assert parsing.json_inputs(f"@{file}") == {"topic": "Grüße"}


def test_inputs_come_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"topic": 1}'))

    assert parsing.json_inputs("-") == {"topic": 1}


def test_no_inputs_are_none() -> None:
    assert parsing.json_inputs(None) == {}


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("{topic: 1}", "the value of --input is no JSON: Expecting property name", "quote it for the shell"),
        ("agents", "the value of --input is no JSON", "text needs its quotes: --input '\"agents\"'"),
        ("", "the value of --input is no JSON", "quote it"),
        ('{"a": NaN}', "NaN is not in JSON", ""),
        ('"agents"', "--input is text; a flow takes an object", "--input '{"),
        ("[1]", "--input is a list", ""),
        ("null", "--input is null", ""),
        ("true", "--input is true or false", ""),
    ],
)
def test_what_is_no_object_of_parameters_is_refused_by_what_it_is(text: str, says: str, hint: str) -> None:
    with pytest.raises(KitaruUsageError, match=says) as caught:
        parsing.json_inputs(text)

    assert hint in (caught.value.hint or "")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KitaruNotFoundError, match=r"nowhere\.json.*No such file"):
        parsing.json_value(f"@{tmp_path / 'nowhere.json'}", option="--value")


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    file = tmp_path / "in.json"
    file.write_bytes(b"\xff\xfe")

    with pytest.raises(KitaruUsageError, match=r"in\.json.*no UTF-8"):
        parsing.json_value(f"@{file}", option="--value")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOON - timedelta(seconds=90)),
        ("2h", NOON - timedelta(hours=2)),
        ("7d", NOON - timedelta(days=7)),
        ("2w", NOON - timedelta(weeks=2)),
        ("2026-01-30T10:00:00+02:00", datetime(2026, 1, 30, 8, tzinfo=UTC)),
        (None, None),
    ],
)
def test_since_is_a_span_or_a_moment(text: str | None, moment: datetime | None) -> None:
    assert parsing.since_moment(text, NOON) == moment


def test_since_without_an_offset_is_local_time() -> None:
    assert parsing.since_moment("2026-01-30", NOON) == datetime(2026, 1, 30).astimezone()


@pytest.mark.parametrize("text", ["", "yesterday", "2", "2y", "999999999w", "2026-13-01"])
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(KitaruUsageError, match="is no time"):
        parsing.since_moment(text, NOON)


def test_filters_keep_everything_after_the_first_equals_sign() -> None:
    assert parsing.filters(["topic=a=b", "n="]) == {"topic": "a=b", "n": ""}


def test_no_filters_are_none() -> None:
    assert parsing.filters([]) is None


@pytest.mark.parametrize("pair", ["topic", "=agents", ""])
def test_a_filter_without_a_key_or_value_is_refused(pair: str) -> None:
    with pytest.raises(KitaruUsageError, match="is not key=value"):
        parsing.filters([pair])


def test_an_unknown_word_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(KitaruUsageError, match="none of pending, running") as caught:
        parsing.one_of("runing", ("pending", "running"), option="--status")

    assert caught.value.hint == "did you mean running?"
