"""The door of a flow has its schema alone; behind it the flow's own types read the same JSON. They say the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypedDict, Unpack

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field

from kitaru.waiting import json_schema, read_answer
from kitaru_registry.errors import KitaruUsageError, KitaruWaitValidationError
from kitaru_registry.schemas import check_answer, check_inputs
from kitaru_runner.values.signatures import convert_inputs, input_schema, output_schema

if TYPE_CHECKING:
    from nowhere import Unknown


class Options(TypedDict):
    day: date
    note: NotRequired[str]


class Order(BaseModel):
    total: Decimal = Field(validation_alias=AliasChoices("total", "sum"))
    first: int = Field(0, validation_alias=AliasChoices("first", AliasPath("all", 0)))


class Named(BaseModel):
    model_config = ConfigDict(populate_by_name=True, extra="forbid")
    size: int = Field(alias="Size")


class Looking(BaseModel):
    model_config = ConfigDict(regex_engine="python-re")
    code: str = Field(pattern=r"^(?=a)\w+$")


class Colour(Enum):
    RED = "red"


@dataclass
class Box:
    prices: dict[int, Decimal]


FITTING = [
    (Decimal, ["1.5", 1, 0.25, "1e3"]),
    (Annotated[Decimal, Field(ge=10, max_digits=4, decimal_places=2)], ["10.25", 12, "99.99"]),
    (dict[int, str], [{"1": "x"}, {}]),
    (dict[Decimal, int], [{"1.5": 1}]),
    (set[int], [[1, 1], [1, 2]]),
    (frozenset[str], [["a", "a"]]),
    (Annotated[float, Field(multiple_of=0.1)], [0.3, 0.7, 1.1, 2]),
    (Annotated[int, Field(multiple_of=3)], [9, 0]),
    (Annotated[str, Field(pattern=r"^\p{L}+$")], ["été"]),
    (Annotated[str, Field(pattern=r"^\d+$")], ["1"]),
    (Looking, [{"code": "abc"}]),
    (Order, [{"total": 1}, {"sum": "2.5"}, {"total": 1, "all": [3]}]),
    (Named, [{"Size": 1}, {"size": 1}]),
    (Options, [{"day": "2026-01-02"}, {"day": "2026-01-02", "note": "x"}]),
    (list[Options | None], [[{"day": "2026-01-02"}, None]]),
    (Mapping[str, Options], [{"a": {"day": "2026-01-02"}}]),
    (Box, [{"prices": {"1": "2.5"}}]),
    (Colour | Literal[3], ["red", 3]),
]  # fmt: skip

UNFIT = [
    (Decimal, ["abc", "", "inf", True, [1]]),
    (Annotated[Decimal, Field(ge=10, max_digits=4, decimal_places=2)], ["9", 9, "10.255", "100000"]),
    (dict[int, str], [{"abc": "x"}, {"1.5": "x"}]),
    (dict[Decimal, int], [{"x": 1}]),
    (set[int], [["a"]]),
    (Annotated[float, Field(multiple_of=0.1)], [0.35]),
    (Annotated[int, Field(multiple_of=3)], [10]),
    (Annotated[str, Field(pattern=r"^\p{L}+$")], ["1"]),
    (Annotated[str, Field(pattern=r"^\d+$")], ["1\n", "x"]),
    (Looking, [{"code": "bcd"}]),
    (Order, [{}, {"sum": "x"}]),
    (Named, [{}, {"size": 1, "other": 2}]),
    (Options, [{}, {"day": "no day"}]),
    (list[Options | None], [[{"day": 3}]]),
    (Box, [{"prices": {"x": "1"}}, {"prices": {"1": "x"}}]),
    (Colour | Literal[3], ["blue", 4]),
]  # fmt: skip


def pairs(table: list[tuple[Any, list[Any]]]) -> list[tuple[Any, Any]]:
    return [(annotation, value) for annotation, values in table for value in values]


def flow_of(annotation: Any) -> Callable[..., Any]:
    def takes(it: Any) -> None: ...

    takes.__annotations__ = {"it": annotation}
    return takes


@pytest.mark.parametrize(("annotation", "value"), pairs(FITTING))
def test_what_the_flow_takes_comes_in_at_every_door(annotation: Any, value: Any) -> None:
    function = flow_of(annotation)
    check_inputs(input_schema(function), {"it": value})
    check_answer(json_schema(annotation), value)

    assert convert_inputs(function, {"it": value})["it"] == read_answer(annotation, json.dumps(value).encode(), "it")


@pytest.mark.parametrize(("annotation", "value"), pairs(UNFIT))
def test_what_the_flow_would_refuse_is_refused_at_the_door(annotation: Any, value: Any) -> None:
    with pytest.raises(KitaruUsageError, match="it"):
        check_inputs(input_schema(flow_of(annotation)), {"it": value})
    with pytest.raises(KitaruWaitValidationError):
        check_answer(json_schema(annotation), value)
    if value is not True:  # JSON's own kinds are never mixed at a door; pydantic makes a number of it
        with pytest.raises(KitaruWaitValidationError):
            read_answer(annotation, json.dumps(value).encode(), "it")


def test_a_pattern_that_no_engine_knows_is_left_to_the_flow() -> None:
    check_inputs({"properties": {"it": {"type": "string", "pattern": "(?<!"}}}, {"it": "anything"})


def test_a_name_that_only_type_checkers_import_does_not_undo_the_others() -> None:
    def report(day: date, rows: Unknown, pause: timedelta = timedelta(1)) -> Unknown: ...

    schema = input_schema(report)

    assert schema["properties"]["day"] == {"format": "date", "type": "string"}
    assert schema["properties"]["rows"] == {}
    assert output_schema(report) == {}
    given = convert_inputs(report, {"day": "2026-01-02", "rows": [1], "pause": "PT1S"})
    assert given == {"day": date(2026, 1, 2), "rows": [1], "pause": timedelta(seconds=1)}


def test_parameters_that_are_taken_by_place_are_given_by_name() -> None:
    def placed(a: int, day: date = date(2026, 1, 1), /, b: int = 2, *more: int, **named: int) -> Any:
        return a, day, b, more, named

    def call(inputs: dict[str, Any]) -> Any:
        given = convert_inputs(placed, inputs)
        return placed(*given.pop("*args", ()), **given)

    assert call({"a": 1}) == (1, date(2026, 1, 1), 2, (), {})
    assert call({"a": 1, "day": "2026-03-04", "b": 3}) == (1, date(2026, 3, 4), 3, (), {})
    assert call({"a": 1, "b": 3, "c": 4}) == (1, date(2026, 1, 1), 3, (), {"c": 4})
    assert input_schema(placed)["required"] == ["a"]
    with pytest.raises(KitaruUsageError, match="a is missing"):
        convert_inputs(placed, {"day": "2026-03-04"})


def test_what_kwargs_take_is_checked_and_converted() -> None:
    def days(**days: date) -> None: ...

    assert convert_inputs(days, {"first": "2026-01-02"}) == {"first": date(2026, 1, 2)}
    check_inputs(input_schema(days), {"first": "2026-01-02"})
    with pytest.raises(KitaruUsageError, match="first"):
        check_inputs(input_schema(days), {"first": "no day"})


def test_unpacked_kwargs_are_parameters_like_others() -> None:
    def unpacked(**options: Unpack[Options]) -> None: ...

    schema = input_schema(unpacked)

    assert schema["required"] == ["day"]
    assert schema["additionalProperties"] is False
    assert convert_inputs(unpacked, {"day": "2026-01-02", "note": "x"}) == {"day": date(2026, 1, 2), "note": "x"}
    for wrong in ({}, {"day": "x"}, {"day": "2026-01-02", "other": 1}):
        with pytest.raises(KitaruUsageError):
            check_inputs(schema, wrong)


def test_kwargs_without_a_type_take_anything() -> None:
    def anything(**named: Any) -> None: ...

    assert input_schema(anything)["additionalProperties"] is True
    check_inputs(input_schema(anything), {"a": [1]})
