"""A value comes back as it was in all that code can tell: in the first run, in a replay, and as an argument."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta, timezone
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Network
from types import ModuleType, SimpleNamespace
from typing import Any, List, Literal, Optional  # noqa: UP035  # what users write
from zoneinfo import ZoneInfo

import numpy
import pytest
from attempts import TestExecution
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import HttpUrl, SecretStr, TypeAdapter
from value_kinds import (
    Aliased,
    Beyond,
    Box,
    Cached,
    Cat,
    Changing,
    Deeper,
    Defined,
    Deprecated,
    Dog,
    Fixed,
    Frozen,
    Group,
    Kind,
    Listed,
    Many,
    Mode,
    Number,
    Page,
    Patch,
    Pet,
    Point,
    Private,
    Row,
    Same,
    Send,
    Slotted,
    Status,
    Text,
    Unset,
    Usage,
    Validated,
    Version,
    WithSlots,
    Word,
    seen,
)  # fmt: skip

from kitaru import KitaruUsageError, checkpoint
from kitaru_registry.journal.display import as_json
from kitaru_registry.journal.entries import Encoded
from kitaru_runner.engine.body.body import run_body
from kitaru_runner.values import codec
from kitaru_runner.values.arguments import digest_inputs, is_opaque
from kitaru_runner.values.pickles import PICKLE

BERLIN = ZoneInfo("Europe/Berlin")


def private() -> Private:
    made = Private(shown=2)
    made._seen.append(("a", 1))
    return made


def beyond(**extra: Any) -> Beyond:
    return Beyond.model_validate(extra)


def filled(usage: Usage, **more: Any) -> Usage:
    usage.__dict__.update(more)
    return usage


def named(values: Many) -> Many:
    values.name = "given"
    return values


def deeper() -> Deeper:
    made = Deeper(1).hide("me")
    made.y = Patch(age=3)
    return made


def cached() -> Cached:
    made = Cached(number=3)
    assert made.square == 9
    return made


def with_slots() -> WithSlots:
    made = WithSlots(number=1)
    object.__setattr__(made, "beside", (1, 2))
    return made


def of_a_type_made_here() -> Any:
    return Page[dict[str, Literal["a", "b"] | None]](items=[{"k": "a"}])


MADE: dict[str, Callable[[], Any]] = {
    "a model of which some fields were set": lambda: Patch(name="x"),
    "a model of which none were set": Patch,
    "models in a list": lambda: [Patch(age=1), Patch()],
    "models as values, beside other keys": lambda: {1: Patch(name="x")},
    "a model by aliases": lambda: Aliased(userName="ana", first="Ana"),  # type: ignore[call-arg]
    "fields beyond the declared": lambda: beyond(content="x", logprobs=None, note=(1, 2)),
    "none beyond the declared, where there may be": lambda: beyond(),
    "private attributes": private,
    "a model that validation would change": lambda: Changing(text="a"),
    "a model with slots": with_slots,
    "a frozen model": lambda: Frozen(number=1),
    "a model without validation": lambda: Patch.model_construct(name=3),
    "a model that lost a field": lambda: (made := Patch(name="x"), made.__dict__.pop("age"))[0],
    "a root model": lambda: Listed([Patch(name="x")]),
    "a generic model": lambda: Page[int](items=[1]),
    "a generic model of models": lambda: Page[Patch](items=[Patch(age=1)]),
    "a generic model of a type that was made in a function": of_a_type_made_here,
    "a generic model of a union": lambda: Page[Optional[int]](items=[1, None]),  # noqa: UP045  # of typing's
    "a generic model of typing's lists": lambda: Page[List[int]](items=[[1]]),  # noqa: UP006  # as above
    "a generic model of tuples": lambda: Page[tuple[int, ...]](items=[(1,)]),
    "a discriminated union": lambda: Pet(one=Dog(patch=Patch(age=2))),
    "a model with a secret and an address": lambda: Pet(
        one=Cat(), url=HttpUrl("http://a.b/c?d=e"), password=SecretStr("pass")
    ),
    "a model that holds what JSON has not": lambda: Pet(one=Cat(lives=1), anything=(1, {2, 3}, Status.OPEN, 1.0)),
    "a cached property": cached,
    "a dataclass that holds what was given": lambda: Usage(tokens=3),
    "a dataclass that holds more": lambda: filled(Usage(), otel={"a": 1}),
    "a frozen dataclass": lambda: Version(3),
    "a generic dataclass": lambda: Box[int](1, Patch(age=1)),
    "a generic dataclass of a generic": lambda: Box[Box[list[int]]](Box([1])),
    "slots of all bases": deeper,
    "a slot that is not set": lambda: Unset(1),
    "a dataclass with a __new__": lambda: Deprecated("x"),
    "a validated dataclass": lambda: Validated(1, Patch(name="x")),
    "an attrs class": lambda: Defined(1, Patch(name="x")),
    "an attrs class that keeps its hash": lambda: (made := Fixed("a"), hash(made))[0],
    "an object that is equal by content": lambda: Send("node", {"patch": Patch(name="x")}),
    "a named tuple": lambda: Point(1, Patch(name="x")),
    "a dict's subclass": lambda: Row(a=1),
    "a list's subclass, with an attribute": lambda: named(Many([1, (2,)])),
    "a text's subclass": lambda: Word("a"),
    "a text's subclass that makes itself": lambda: Pet(one=Cat(), anything=Text("a")),
    "an int's subclass": lambda: [Number(3)],
    "a set's subclass": lambda: Group({1, (2, 3)}),
    "a member of an enum": lambda: [Kind.TWO, Kind.UNO],
    "what an open enum made": lambda: Status("later"),
    "flags": lambda: [Mode(0), Mode.READ | Mode.WRITE, Mode(8)],
    "a zone": lambda: BERLIN,
    "a time in a zone": lambda: datetime(2026, 1, 1, tzinfo=BERLIN),
    "the second of two equal hours": lambda: datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
    "a fold without a zone": lambda: [time(2, fold=1), datetime(2024, 1, 1, fold=1)],
    "offsets": lambda: [timezone.utc, timezone(timedelta(hours=1)), timezone(timedelta(hours=-5), "EST")],  # noqa: UP017
    "an offset that pydantic read": lambda: TypeAdapter(datetime).validate_json('"2026-01-01T00:00:00+02:00"'),
    "numbers of numpy": lambda: [
        numpy.float64(0.1), numpy.float32(0.1), numpy.float64("nan"), numpy.int64(-3), numpy.uint8(3),
        numpy.bool_(True), numpy.complex128(1j), numpy.str_("a"), numpy.datetime64("2026-01-01T00:00", "s"),
        numpy.timedelta64(3, "h"),
    ],
    "an array in a dict": lambda: {"a": numpy.float64(1)},
    "an ordered dict": lambda: OrderedDict(b=1, a=Patch(name="x")),
    "a counter": lambda: Counter("abca"),
    "a default dict": lambda: defaultdict(list, {"a": [1]}),
    "a deque": lambda: deque([1, (2,)], maxlen=3),
    "bytes that change": lambda: bytearray(b"\x00\xff"),
    "ranges": lambda: [range(3), range(10, 0, -2), slice(1, None, 2)],
    "fractions and complex": lambda: [Fraction(1, 3), 1j],
    "addresses": lambda: [IPv4Address("127.0.0.1"), IPv6Network("::/8")],
    "patterns": lambda: [re.compile("a+", re.I), re.compile(b"\xff")],
    "a namespace": lambda: SimpleNamespace(a=1, b=(2,)),
    "types": lambda: [int, Patch, Page[int], list[int], int | None, Box[str], type(None), Literal["a"]],
}  # fmt: skip


def same_in_all(one: Any, other: Any) -> bool:
    return bool(seen(one) == seen(other))


@pytest.mark.parametrize("name", MADE)
def test_a_value_comes_back_as_it_was_without_pickle(name: str) -> None:
    value = MADE[name]()
    encoded = codec.encode(value)
    back = codec.decode(encoded)

    assert encoded.codec == "tagged"
    assert seen(back) == seen(value)
    assert codec.encode(back) == encoded, "the same value has the same bytes"
    assert digest_inputs({"it": back}) == digest_inputs({"it": value})
    assert not is_opaque(digest_inputs({"it": value}))
    json.dumps(as_json(encoded.codec, encoded.data))
    if name not in ("numbers of numpy", "a slot that is not set"):
        assert back == value


words = st.text(max_size=5)
numbers = (
    st.integers() | st.floats(allow_nan=False) | st.decimals(allow_nan=False) | st.fractions()
    | st.floats(width=32, allow_nan=False).map(numpy.float32) | st.integers(-9, 9).map(numpy.int16)
)  # fmt: skip
scalars = (
    st.none() | st.booleans() | numbers | words | st.binary(max_size=5) | st.uuids() | words.map(Word)
    | words.map(Fixed) | st.sampled_from([*Kind, *Mode, Status.OPEN, Status("new"), Status("newer")])
    | st.datetimes(timezones=st.sampled_from([None, UTC, BERLIN, timezone(timedelta(hours=3), "X")]))
    | st.builds(Version, st.integers(), st.integers()) | st.builds(Frozen, number=st.integers())
)  # fmt: skip


few = st.integers(0, 4)
"""Sets of these have one order, whoever made them."""


def set_in_part(kind: type[Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: kind(**given))


def holding(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=3)
    dicts = st.dictionaries(words | st.just("$"), inner, max_size=3)
    return (
        lists | dicts | st.tuples(inner, inner) | st.dictionaries(scalars.filter(is_key), inner, max_size=2)
        | set_in_part(Patch, name=words, age=st.integers()) | set_in_part(Usage, tokens=st.integers(), more=inner)
        | set_in_part(Beyond, content=words, refusal=st.none(), more=inner)
        | st.builds(Page[list[int]].model_construct, items=lists) | st.builds(Pet, one=st.just(Cat()), anything=inner)
        | inner.map(Box[int]) | inner.map(Slotted) | inner.map(Deeper) | st.builds(Send, words, inner)
        | inner.map(Point) | st.builds(Defined, st.integers(), inner) | dicts.map(Row) | lists.map(Many)
        | lists.map(deque) | dicts.map(OrderedDict) | dicts.map(lambda items: SimpleNamespace(a=items))
        | st.sets(few) | st.sets(few).map(frozenset) | st.sets(few).map(Group)
    )  # fmt: skip


def is_key(value: object) -> bool:
    """Neither another NaN nor a number that equals one of another type: those are no two keys."""
    return not isinstance(value, float | numpy.generic | bool | Mode) and value == value


values = st.recursive(scalars, holding, max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(values)
def test_no_code_can_tell_a_value_that_came_back_from_the_one_that_was_encoded(value: Any) -> None:
    encoded = codec.encode(value)
    back = codec.decode(encoded)

    assert encoded.codec in ("json", "str", "bytes", "tagged")
    assert seen(back) == seen(value)
    assert codec.encode(back) == encoded
    assert digest_inputs({"it": back}) == digest_inputs({"it": value})


@pytest.mark.parametrize("name", MADE)
def test_the_first_run_a_replay_and_a_call_are_given_the_same(execution: TestExecution, name: str) -> None:
    given: list[Any] = []

    @checkpoint
    def make() -> Any:
        return MADE[name]()

    @checkpoint
    def take(value: Any) -> None:
        given.append(seen(value))

    def body() -> None:
        value = make()
        given.append(seen(value))
        take(value)

    execution.attempt(body, writes=1)
    execution.attempt(body)

    assert execution.status == "completed"
    assert given == [seen(MADE[name]())] * len(given)
    assert execution.record.warnings == ()


def test_an_object_that_is_equal_to_itself_alone_keeps_who_is_who() -> None:
    friend = Same()
    value = [friend, Same(friend)]
    encoded = codec.encode(value)

    one, other = codec.decode(encoded)

    assert encoded.codec == PICKLE
    assert other.friend is one


def test_where_pickles_are_forbidden_such_an_object_is_carried_where_it_stands_alone(execution: TestExecution) -> None:
    seen: list[Any] = []

    @checkpoint
    def alone() -> Any:
        return [Same(Same()), Same()]

    @checkpoint
    def twice() -> Any:
        friend = Same()
        return [friend, Same(friend)]

    def body() -> None:
        one, other = alone()
        seen.append((type(one), type(one.friend), other.friend))
        with pytest.raises(KitaruUsageError, match="only pickle carries"):
            twice()

    engine, _, inputs = execution.begin()
    engine.opening = replace(engine.opening, may_pickle=False)
    run_body(engine, body, inputs)

    assert execution.status == "completed", execution.record.error
    assert seen == [(Same, Same, None)]


def test_a_script_s_own_classes_are_pickled_by_the_name_that_a_later_process_gives_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main, module = sys.modules["__main__"], ModuleType("a_script")
    source = "class Outer:\n    class Plain:\n        def __init__(self, x): self.x = x\n"
    exec(source, vars(module) | {"__name__": "__main__"}, vars(module))
    for name, value in (("Outer", module.Outer), ("__kitaru_name__", "a_script")):
        monkeypatch.setitem(vars(main), name, value)
    monkeypatch.setitem(sys.modules, "a_script", module)

    encoded = codec.encode([module.Outer.Plain(3), module.Outer.Plain])
    value, kind = codec.decode(encoded)

    assert encoded.codec == PICKLE
    assert type(value) is kind is module.Outer.Plain
    assert b"kitaru" not in encoded.data, "the pickle needs nothing of ours"


def test_a_cached_property_that_cannot_be_kept_is_computed_anew() -> None:
    value = cached()
    assert value.compute() == 3

    back = codec.decode(codec.encode(value))

    assert set(vars(back)) == {"number", "square"}
    assert back.compute() == 3


def test_a_secret_is_not_shown() -> None:
    encoded = codec.encode(Pet(one=Cat(), password=SecretStr("pass")))

    assert as_json(encoded.codec, encoded.data)["password"] == "**********"


def test_what_people_are_shown_of_a_message_is_json() -> None:
    encoded = codec.encode([Box[int](1, Patch(name="x")), filled(Usage(tokens=1), otel=None), beyond(note=1)])

    assert as_json(encoded.codec, encoded.data) == [
        {"value": 1, "patch": {"name": "x", "age": None}, "__orig_class__": ["builtins:int"]},
        {"tokens": 1, "details": {}, "otel": None},
        {"content": None, "refusal": None, "note": 1},
    ]


def test_a_tag_of_a_newer_release_is_refused() -> None:
    with pytest.raises(KitaruUsageError, match="unknown tag tensor in a value"):
        codec.decode(Encoded("tagged", b'{"$": "tensor", "of": "a:B", "v": {}}'))


def test_what_an_earlier_release_wrote_is_read() -> None:
    """Set 1 of the codecs, as 0.1.0 wrote it."""
    module = Patch.__module__
    written = {
        '{"$": "pydantic", "type": "%s:Patch", "v": {"name": "x", "age": null}}': Patch(name="x", age=None),
        '{"$": "dataclass", "type": "%s:Version", "v": {"major": 1, "minor": 2}}': Version(1, 2),
        '{"$": "enum", "type": "%s:Kind", "v": "TWO"}': Kind.TWO,
        '{"$": "flag", "type": "%s:Mode", "v": 3}': Mode.READ | Mode.WRITE,
        '[{"$": "datetime", "v": "2026-01-01T00:00:00+01:00"}, {"$": "tuple", "v": [1]}]': [
            datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))), (1,),
        ],
    }  # fmt: skip
    for text, value in written.items():
        assert codec.decode(Encoded("tagged", text.replace("%s", module).encode())) == value
