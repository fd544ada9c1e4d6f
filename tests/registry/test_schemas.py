"""Inputs and answers are checked strictly, and everything that is wrong is said at once."""

from __future__ import annotations

import contextlib
import enum
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, create_model

from kitaru_registry.errors import KitaruUsageError, KitaruWaitValidationError
from kitaru_registry.schemas import check_answer, check_inputs, check_schema


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Author(BaseModel):
    name: str
    age: int = 0


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


def schema_of(**parameters: Any) -> dict[str, Any]:
    """What a flow with these parameters says of its inputs."""
    return create_model("Inputs", __config__={"extra": "forbid"}, **parameters).model_json_schema()


SCHEMA = schema_of(
    topic=(str, ...),
    count=(int | None, 3),
    day=(date | None, None),
    author=(Author | None, None),
    colour=(Colour, Colour.RED),
    scores=(dict[str, list[int]], {}),
    share=(Annotated[float, Field(ge=0, lt=1)], 0.5),
)


def refused(inputs: dict[str, Any], schema: dict[str, Any] = SCHEMA) -> KitaruUsageError:
    with pytest.raises(KitaruUsageError) as error:
        check_inputs(schema, inputs, flow="review")
    return error.value


def test_inputs_that_fit_pass() -> None:
    check_inputs(SCHEMA, {"topic": "x"})
    check_inputs(
        SCHEMA,
        {
            "topic": "",
            "count": None,
            "day": "2024-02-29",
            "author": {"name": "Ada"},
            "colour": "blue",
            "scores": {"a": [1]},
            "share": 0,
        },
    )


def test_every_missing_and_unknown_parameter_is_named_with_the_nearest() -> None:
    error = refused({"topc": "x", "zzz": 1})

    assert error.message == (
        "these inputs do not fit review: topic is missing (string); topc is unknown (did you mean topic?); "
        "zzz is unknown"
    )
    assert error.hint is not None
    assert error.hint.startswith("parameters: topic (string), count (integer or null, default 3), day (string (date)")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("topic", 1, "topic: expected string, got integer 1"),
        ("topic", None, "topic: expected string, got null"),
        ("count", "3", 'count: expected integer or null, got string "3"'),
        ("count", True, "count: expected integer or null, got true"),
        ("count", 3.0, "count: expected integer or null, got number 3.0"),
        ("day", "2024-02-30", 'day: expected string (date), got string "2024-02-30"'),
        ("day", "1700000000", 'day: expected string (date), got string "1700000000"'),
        ("author", {"age": 3}, "author: name is missing"),
        ("author", {"name": 1}, "author.name: expected string, got integer 1"),
        ("author", "Ada", 'author: expected object with name, age or null, got string "Ada"'),
        ("colour", "green", 'colour: expected one of "red", "blue", got string "green"'),
        ("scores", {"a": [1, True]}, "scores.a[1]: expected integer, got true"),
        ("scores", [1], "scores: expected object, got array of 1"),
        ("share", 1, "share: expected less than 1, got integer 1"),
        ("share", float("nan"), "share: expected number, got number NaN"),
        ("topic", {"password": "s3cret"}, "topic: expected string, got object of 1"),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(name: str, value: Any, said: str) -> None:
    assert refused({"topic": "x", name: value}).message == f"these inputs do not fit review: {said}"


def test_all_faults_come_at_once() -> None:
    message = refused({"count": "3", "colour": "green", "nosuch": 1}).message

    assert all(name in message for name in ("topic is missing", "count: ", "colour: ", "nosuch is unknown"))


def test_a_union_is_explained_by_the_branch_that_is_meant() -> None:
    schema = schema_of(pet=(Cat | Dog, ...))

    assert "pet.lives: expected integer" in refused({"pet": {"kind": "cat", "lives": "nine"}}, schema).message


def test_long_values_are_not_repeated() -> None:
    assert len(refused({"topic": "x", "count": "y" * 10_000}).message) < 200


def test_a_flow_without_parameters_says_so() -> None:
    assert refused({"x": 1}, schema_of()).hint == "parameters: none"


def test_a_flow_with_free_keywords_takes_them() -> None:
    check_inputs({"type": "object", "properties": {}, "additionalProperties": {"type": "integer"}}, {"anything": 1})


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (datetime, "2024-01-02T03:04:05Z", "yesterday"),
        (UUID, "12345678-1234-5678-1234-567812345678", "1234"),
        (date, "2024-01-02", "2024-1-2x"),
    ],
)
def test_formats_are_checked_as_pydantic_reads_them(kind: type, good: str, bad: str) -> None:
    schema = schema_of(value=(kind, ...))

    check_inputs(schema, {"value": good})
    assert "value: expected string" in refused({"value": bad}, schema).message


@pytest.mark.parametrize("value", [None, 1, "x", [], {"a": 1}])
def test_every_answer_fits_a_wait_without_a_schema(value: object) -> None:
    check_answer(None, value)


def test_an_answer_that_does_not_fit_says_what_is_waited_for() -> None:
    check_answer({"type": "boolean"}, False)

    with pytest.raises(KitaruWaitValidationError) as error:
        check_answer({"type": "boolean"}, "yes")

    assert error.value.message == 'this answer does not fit: expected boolean, got string "yes"'
    assert error.value.hint == "it stays waiting for: boolean"


def test_what_is_no_schema_is_refused() -> None:
    check_schema(Author.model_json_schema())

    with pytest.raises(KitaruUsageError, match="this is no JSON schema"):
        check_schema({"type": "text"})


@pytest.mark.parametrize("ref", ["https://example.org/schema.json", "#/$defs/nosuch"])
def test_a_schema_never_leads_elsewhere(ref: str) -> None:
    with pytest.raises(KitaruUsageError, match="which it does not define"):
        check_answer({"$ref": ref}, 1)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["topic", "count", "day", "author", "colour", "scores", "x"]), JSON_VALUES))
def test_whatever_comes_is_accepted_or_refused_in_words(inputs: dict[str, Any]) -> None:
    # Only a refusal in words may be raised.
    with contextlib.suppress(KitaruUsageError):
        check_inputs(SCHEMA, inputs)
        assert isinstance(inputs["topic"], str)
