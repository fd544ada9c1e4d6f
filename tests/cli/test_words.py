from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kitaru_cli import words

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("elapsed", "said"),
    [
        (timedelta(milliseconds=200), "now"),
        (timedelta(seconds=12), "12s ago"),
        (timedelta(seconds=59.4), "59s ago"),
        (timedelta(minutes=3, seconds=50), "3m ago"),
        (timedelta(hours=2), "2h ago"),
        (timedelta(days=30), "30d ago"),
        (timedelta(minutes=-5), "in 5m"),
    ],
)
def test_a_time_is_told_by_its_distance(elapsed: timedelta, said: str) -> None:
    assert words.ago(NOON - elapsed, NOON) == said


def test_a_time_long_gone_is_told_by_its_date() -> None:
    assert words.ago(NOON - timedelta(days=90), NOON).startswith("2025-11-0")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0ms"), (0.0121, "12ms"), (1.24, "1.2s"), (59.9, "59.9s"), (185, "3m 05s"), (7_380, "2h 03m"), (-1, "0ms")],
)
def test_a_duration_has_two_significant_parts(seconds: float, said: str) -> None:
    assert words.took(NOON, NOON + timedelta(seconds=seconds)) == said


def test_what_has_not_ended_has_no_duration() -> None:
    assert words.took(NOON, None) == "-"


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 KB"),
        (14_200, "14 KB"),
        (999_400, "999 KB"),
        (999_600, "1.0 MB"),
        (1_200_000, "1.2 MB"),
        (5_000_000_000_000, "5000 GB"),
    ],
)
def test_a_size_is_in_powers_of_a_thousand(count: int, said: str) -> None:
    assert words.size(count) == said


@pytest.mark.parametrize(
    ("routes", "said"), [(None, "-"), ({}, "-"), ({"v3": 100}, "v3"), ({"v3": 90, "v4": 10}, "v3 90%, v4 10%")]
)
def test_a_route_names_its_versions(routes: dict[str, int] | None, said: str) -> None:
    assert words.route(routes) == said


def test_a_stored_text_cannot_steer_the_terminal() -> None:
    assert words.visible("a\x1b[2Jb\nc\x07") == "a\\x1b[2Jb\nc\\x07"


def test_a_cell_stays_in_its_line() -> None:
    assert words.one_line("first\n  second\tthird") == "first second third"


def test_a_result_that_is_text_is_printed_as_it_is() -> None:
    assert words.value_text("Grüße") == "Grüße"


def test_any_other_result_is_printed_as_json() -> None:
    assert words.value_text({"ü": [1]}) == '{\n  "ü": [\n    1\n  ]\n}'


@pytest.mark.parametrize(("text", "line"), [("Publish?", "Publish?"), ("Publish?\n\n# A draft", "Publish? ...")])
def test_a_table_has_room_for_the_first_line(text: str, line: str) -> None:
    assert words.first_line(text) == line
