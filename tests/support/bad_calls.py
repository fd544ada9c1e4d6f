"""Calls of any function, with arguments of every kind: those that it is made for, and those that nobody means."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from bad_words import BAD_TEXT, words
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_records import VALUES, keyed, nested

from kitaru import KitaruError
from kitaru.flow_options import FlowOptions
from kitaru_registry.home import Home

AFAR = datetime(9999, 12, 31, 23, 59, 59, 999_999)
ODD_VALUES: tuple[Any, ...] = (
    10**400, -(10**400), 10**6_000,
    2**63, -(2**63) - 1, 2**62, -1, 0, 1, True, 1e308, -1e308, 5e-324, float("nan"), float("inf"),
    float("-inf"), 0.5, 1j, None, [], {}, (), set(), b"\xff", object(), object, len, lambda: 1, {1: 2},
    {"a\ud800": 1}, {"a": "\ud800"}, {"a": b"\xff"}, [[]], ["\0"], [None], {"a": {}}, {BAD_TEXT: BAD_TEXT}, {"": ""},
    nested(450), nested(900), keyed(450), nested(20_000), {"a": nested(20_000)}, {"topic": keyed(900)}, *VALUES,
    datetime.min, AFAR, datetime.min.replace(tzinfo=UTC), AFAR.replace(tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), AFAR.replace(tzinfo=timezone(timedelta(hours=-14))),
    timedelta.max, timedelta.min, timedelta(0), Path("a\0b"), Path(BAD_TEXT), Path("x" * 300),
    Path("x/" * 3_000), Path("a-file/below"), Path("a-file"), ValueError, ValueError("\ud800"), Home(Path("a\0b")),
    FlowOptions(), int, str, bool, list[int], "list[int]", NotImplemented, ..., type("Odd", (), {"__repr__": None}),
)  # fmt: skip
"""No text."""

FITTING: Mapping[str, Sequence[Any]] = {
    "flow": ["review", "review@v1", "review@stable"], "tag": ["stable", "default"], "version": ["v1", 1, 2],
    "to": ["v1", 1], "limit": [3], "size": [3], "page": [1], "since": [datetime(2026, 1, 1, tzinfo=UTC)],
    "before": [AFAR.replace(tzinfo=UTC)], "status": ["completed", "failed", "waiting"], "where": [{"topic": "x"}],
    "depth": [2], "inputs": [{"topic": "x"}], "value": [True, {}], "wait": ["approve"], "key": ["ask\x1b"],
    "timeout": [0.01], "attempt": [1], "offset": [0], "source": ["flow"], "checkpoint": ["odd"], "name": ["odd"],
    "kind": ["manual"], "type": ["output"], "from_": ["odd", "bad", "failed"], "overrides": [{"checkpoint.odd": 1}],
    "action": ["cancel", "retry", "replay"], "interval": [0.01], "direction": ["up", "down"], "index": [0, -1],
    "options": [None, {"from_": "odd"}, {"reason": "x"}], "question": ["Well?"], "duration": [0.01], "schema": [bool],
}  # fmt: skip
"""What a parameter is made for: among good arguments a bad one comes further than among bad ones alone."""

EXEC_IDS = ("exec_id", "parent", "replay_of", "a", "b", "exec_ids", "artifact_id")


def values(name: str, ids: Sequence[str]) -> st.SearchStrategy[Any]:
    fitting = [*ids, f"{ids[-1]}/odd"] if name in EXEC_IDS else [*FITTING.get(name, ())]
    odd = st.sampled_from(ODD_VALUES) | words([*ids, "review", "stable", "approve"])
    return odd if not fitting else st.sampled_from(fitting) | st.sampled_from(fitting) | odd


class Call(NamedTuple):
    """What a function is called with."""

    args: list[Any]
    kwargs: dict[str, Any]

    def __repr__(self) -> str:
        return f"Call({shown(self.args)}, {shown(self.kwargs)})"


def shown(value: Any) -> str:
    """As `repr`, also of what holds something that has none."""
    if type(value) is list:
        return f"[{', '.join(map(alone, value))}]"
    return f"{{{', '.join(f'{name!r}: {alone(item)}' for name, item in value.items())}}}"


def alone(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # too deep, or too many digits, or it refuses
        return f"<a {type(value).__name__}, whose repr is a {type(error).__name__}>"


@st.composite
def calls(draw: st.DrawFn, signature: inspect.Signature, ids: Sequence[str]) -> Call:
    """Arguments for each parameter without a default, and for some of the others."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    by_place = True
    for name, parameter in signature.parameters.items():
        value = values(name, ids)
        if parameter.kind is parameter.VAR_POSITIONAL:
            args += draw(st.lists(value, max_size=3))
        elif parameter.kind is parameter.VAR_KEYWORD:
            kwargs |= draw(st.dictionaries(st.sampled_from(["topic", "cache", "\ud800", "", "k"]), value, max_size=2))
        elif parameter.default is parameter.empty or draw(st.integers(0, 2)) == 0:
            by_place = by_place and parameter.kind is not parameter.KEYWORD_ONLY
            if by_place:
                args.append(draw(value))
            else:
                kwargs[name] = draw(value)
        else:
            by_place = False
    return Call(args, kwargs)


def outcome(function: Callable[..., Any], call: Call) -> Any:
    """The value, or what may be raised."""
    args, kwargs = call
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return None
    try:
        value = function(*args, **kwargs)
        return list(islice(value, 20)) if inspect.isgenerator(value) else value
    except KitaruError as error:
        return str(error)


def check(function: Callable[..., Any], ids: Sequence[str], *, after: Callable[[], object], examples: int) -> None:
    @quietly(examples)
    @given(calls(inspect.signature(function), ids))
    def each(call: Call) -> None:
        outcome(function, call)
        after()

    each()


def quietly(examples: int) -> settings:
    """So many examples, however slow the machine is and whatever their size."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
