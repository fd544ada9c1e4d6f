"""JSON text is what `json` makes of it, and is read as `json` reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru_registry.journal.json_text import compact, encoder, parse

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner) | st.tuples(inner)
)


@given(VALUES)
def test_the_text_is_that_of_json(value: Any) -> None:
    assert compact(value) == json.dumps(value, separators=(",", ":"))
    assert encoder(sort_keys=True)(value) == json.dumps(value, sort_keys=True)


@given(VALUES)
def test_what_was_written_is_read(value: Any) -> None:
    text = compact(value)

    assert repr(parse(text)) == repr(json.loads(text))


def test_white_space_around_it_is_nothing() -> None:
    assert parse(' \n{"a": 1} ') == {"a": 1}


@pytest.mark.parametrize("text", ["", " ", "{", '{"a": 1} 2', "nul", "[1, 2"])
def test_what_is_no_json_is_refused_as_json_does(text: str) -> None:
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(text)

    with pytest.raises(json.JSONDecodeError) as raised:
        parse(text)

    assert str(raised.value) == str(expected.value)


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="Object of type object is not JSON serializable"):
        compact({"a": object()})


def test_a_value_that_contains_itself_is_refused_and_another_is_written_after_it() -> None:
    circle: list[Any] = []
    circle.append(circle)

    with pytest.raises(RecursionError):
        compact(circle)

    assert compact([1]) == "[1]"
