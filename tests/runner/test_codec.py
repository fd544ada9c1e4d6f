"""Values come back from their bytes equal in value and in type."""

from __future__ import annotations

import dataclasses
import json
import math
import socket
import sys
import threading
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum, auto
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.journal.display import as_json
from kitaru_registry.journal.entries import Encoded
from kitaru_runner.values import codec
from kitaru_runner.values.arguments import digest_inputs
from kitaru_runner.values.pickles import PICKLE


class Colour(Enum):
    RED = "red"
    GREEN = ("g", 1)


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Word(StrEnum):
    YES = auto()


class Access(Flag):
    READ = auto()
    WRITE = auto()


class Mode(IntFlag):
    READ = 4
    WRITE = 2


@dataclasses.dataclass
class Note:
    title: str
    tags: tuple[str, ...] = ()
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float


@dataclasses.dataclass
class Asking:
    """Its __init__ must not run again."""

    name: str
    length: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.length = len(self.name)
        if self.name == "rebuilt":
            raise AssertionError("__init__ ran")


class Person(BaseModel):
    name: str
    born: date | None = None
    notes: list[str] = []


class Open(BaseModel):
    anything: Any = None


Pair = namedtuple("Pair", "left right")


class Text(str):
    pass


def same(one: Any, other: Any) -> bool:
    """Equal in value and type, all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, set | frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    if isinstance(one, float | complex | Decimal):
        return repr(one) == repr(other)
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    if isinstance(one, datetime | time):
        return bool(one == other and one.utcoffset() == other.utcoffset() and one.fold == other.fold)
    return bool(one == other)


offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
zones = st.none() | st.just(UTC) | offsets | st.just(ZoneInfo("UTC"))
keys = (
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.dates() | st.uuids()
    | st.decimals(allow_nan=False) | st.sampled_from([*Colour, *Size, *Word]) | st.tuples(st.integers(), st.text())
)  # fmt: skip
plain = (
    keys | st.floats() | st.complex_numbers() | st.timedeltas() | st.decimals()
    | st.datetimes(timezones=zones) | st.times(timezones=zones)
    | st.text(st.characters(codec=None, categories=None))
    | st.builds(Note, st.text()) | st.builds(Point, st.floats(), st.floats())
    | st.builds(Person, name=st.text(), born=st.dates() | st.none())
    | st.sampled_from([Path("/tmp/a"), PurePosixPath("b"), Access.READ, Access.READ | Access.WRITE, Mode(0), Mode(6)])
)  # fmt: skip
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(st.text() | st.just("$"), inner, max_size=4) | st.sets(keys, max_size=4)
        | st.frozensets(keys, max_size=4) | st.builds(Note, st.text(), extra=st.dictionaries(st.text(), inner))
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(values)
def test_a_value_comes_back_equal_in_value_and_type(value: Any) -> None:
    encoded = codec.encode(value)

    assert same(codec.decode(encoded), value), encoded


@settings(max_examples=50, deadline=None)
@given(values)
def test_what_is_shown_is_json_whatever_the_codec(value: Any) -> None:
    encoded = codec.encode(value)

    json.dumps(as_json(encoded.codec, encoded.data))


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), values, max_size=3))
def test_equal_arguments_have_equal_digests(arguments: dict[str, Any]) -> None:
    again = codec.decode(codec.encode(arguments))

    assert digest_inputs(arguments) == digest_inputs(again)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "json"), (True, "json"), (12, "json"), (0.1, "json"), ({"a": [1, None]}, "json"),
        ("text", "str"), ("", "str"), ("\ud800", "json"), (b"\x00\xff", "bytes"),
        ((1, 2), "tagged"), ({1: "a"}, "tagged"), ({"a"}, "tagged"), (math.inf, "tagged"), (Decimal("1.10"), "tagged"),
        (Colour.GREEN, "tagged"), (Size.SMALL, "tagged"), (Note("a"), "tagged"), (Point(1, 2), "tagged"),
        (Person(name="Ada"), "tagged"), ([{"$": 1}, ()], "tagged"), (UUID(int=1), "tagged"),
        (Pair(1, 2), "tagged"), (OrderedDict(a=1), "tagged"), (Text("a"), "tagged"),
        (bytearray(b"a"), "tagged"), (range(3), "tagged"), (lambda: 1, PICKLE),
        (datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")), "tagged"),
    ],
)  # fmt: skip
def test_the_codec_follows_the_exact_type(value: Any, name: str) -> None:
    encoded = codec.encode(value)

    assert encoded.codec == name
    if not callable(value):
        assert same(codec.decode(encoded), value)


def test_a_model_that_json_would_change_is_pickled() -> None:
    for content in ((1, 2), datetime(2024, 1, 1), {1, 2}, Decimal(1), Size.SMALL, Word.YES, [Word.YES], 1.0):
        back = codec.decode(codec.encode(Open(anything=content)))
        assert same(back.anything, content), content


def test_a_dataclass_is_rebuilt_without_its_init() -> None:
    asking = Asking("x")
    asking.name = "rebuilt"

    assert codec.decode(codec.encode(asking)) == asking


def test_attributes_beyond_the_fields_are_kept() -> None:
    note = Note("a")
    note.seen = True  # type: ignore[attr-defined]

    assert codec.decode(codec.encode(note)).seen


def test_a_dataclass_that_is_also_a_container_keeps_what_it_contains() -> None:
    listed = Listed("a")
    listed.extend([1, 2])

    assert list(codec.decode(codec.encode(listed))) == [1, 2]


@dataclasses.dataclass
class Listed(list[int]):
    name: str


def test_a_value_that_contains_itself_comes_back() -> None:
    value: list[Any] = [1]
    value.append(value)

    back = codec.decode(codec.encode(value))

    assert back[1] is back


def test_a_type_that_cannot_be_imported_by_name_is_pickled() -> None:
    @dataclasses.dataclass
    class Local:
        name: str

    assert codec.encode(Local("a")).codec == PICKLE
    assert codec.decode(codec.encode(Local("a"))).name == "a"


@pytest.mark.parametrize("make", [lambda: (n for n in []), threading.Lock, socket.socket, sys._getframe])
def test_what_no_codec_carries_is_said_by_type(make: Any) -> None:
    value = make()
    try:
        with pytest.raises(KitaruUsageError, match=f"no codec carries a value of type .*{type(value).__name__}"):
            codec.encode(value)
    finally:
        getattr(value, "close", lambda: None)()


def test_what_no_codec_carries_says_what_to_write_instead() -> None:
    async def later() -> None:
        pass

    for value, said in ((later(), "await it"), ((n for n in []), "return a list")):
        with pytest.raises(KitaruUsageError) as raised:
            codec.encode(value)
        assert said in str(raised.value.hint)
        value.close()


def test_an_int_with_too_many_digits_for_json_comes_back() -> None:
    value = 10**6000

    assert codec.decode(codec.encode(value)) == value
    assert codec.decode(codec.encode((value,))) == (value,)


def test_a_pickle_of_another_python_is_not_read() -> None:
    with pytest.raises(KitaruUsageError, match=r"pickled by Python 3\.7"):
        codec.decode(Encoded("pickle-3.7", b""))


def test_a_codec_of_a_newer_release_is_named() -> None:
    with pytest.raises(KitaruUsageError, match="unknown codec arrow"):
        codec.decode(Encoded("arrow", b""))


def test_a_value_whose_type_is_gone_names_it() -> None:
    gone = json.dumps({"$": "dataclass", "type": "no_such_module:Thing", "v": {}}).encode()

    with pytest.raises(KitaruUsageError, match="no_such_module:Thing cannot be imported here"):
        codec.decode(Encoded("tagged", gone))


def test_showing_a_pickle_runs_none_of_it() -> None:
    exploding = cloudpickle.dumps(Exploding())

    assert as_json(PICKLE, exploding) == f"<{PICKLE}, {len(exploding)} bytes>"


def test_a_value_whose_pickle_cannot_be_read_is_refused_before_it_counts() -> None:
    with pytest.raises(KitaruUsageError, match="Exploding: its pickle cannot be read: AssertionError: unpickled"):
        codec.encode(Exploding())


class Exploding:
    def __reduce__(self) -> Any:
        return (exec, ("raise AssertionError('unpickled')",))


def test_numpy_arrays_keep_shape_and_type() -> None:
    import numpy

    array = numpy.arange(6, dtype="float32").reshape(2, 3)

    back = codec.decode(codec.encode(array))

    assert back.dtype == array.dtype
    assert (back == array).all()


@pytest.mark.parametrize("zone", [timezone(timedelta(microseconds=1)), timezone(timedelta(hours=-5), "EST")])
def test_a_zone_that_its_text_does_not_say_is_kept(zone: timezone) -> None:
    for value in (time(1, 2, tzinfo=zone), datetime(2026, 1, 2, tzinfo=zone)):
        decoded = codec.decode(codec.encode(value))

        assert decoded == value
        assert (decoded.utcoffset(), decoded.tzname()) == (value.utcoffset(), value.tzname())
