"""What a flow's body may call, decorators and classes, with any arguments: a value or one clear error."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from bad_calls import Call, calls, outcome, quietly
from hypothesis import given
from odd_records import keyed, nested

import kitaru
from kitaru import KitaruUsageError, checkpoint, flow, testing
from kitaru.checkpoints import OPTIONS as CHECKPOINT_OPTIONS
from kitaru.checkpoints import Checkpoint
from kitaru.flow_options import OPTIONS as FLOW_OPTIONS
from kitaru.flows import Flow
from kitaru_runner.values import registered as custom

EXAMPLES = 250 if os.environ.get("KITARU_SOAK") else 12

IN_FLOWS = ("wait", "wait_any", "sleep", "sleep_until", "save", "load", "log", "now", "random", "uuid4",
    "current_execution_id")  # fmt: skip
OUTSIDE = (*(name for name in IN_FLOWS if not name.startswith("sleep")), "register_codec")
"""Not what sleeps in place there."""

DECORATORS = {"flow": FLOW_OPTIONS, "checkpoint": CHECKPOINT_OPTIONS}
CLASSES = [name for name in kitaru.__all__ if isinstance(getattr(kitaru, name), type)]
NOT_CALLED = ("KitaruClient", "FlowHandle", "FailureOrigin")
"""Two have tests of their own (test_any_arguments.py); what a call of the enumeration does is Python's."""


def plain(topic: Any = None) -> None: ...


@checkpoint
def step(*args: Any, **kwargs: Any) -> None: ...


calling: list[Callable[[], object]] = []


@flow
def body() -> None:
    calling[-1]()


@pytest.fixture(scope="module", autouse=True)
def home() -> Iterator[None]:
    with testing.home():
        yield


@pytest.fixture(autouse=True)
def codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom, "by_type", {})
    monkeypatch.setattr(custom, "by_name", {})


def taking(function: Callable[..., Any], options: Sequence[str], *, others: bool = False) -> Callable[..., Any]:
    """The function as one that has these keywords."""

    def call(*args: Any, **given: Any) -> Any:
        return function(*args, **given)

    kind = inspect.Parameter.KEYWORD_ONLY
    several = [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)] if others else []
    keywords = [inspect.Parameter(name, kind, default=None) for name in options]
    call.__signature__ = inspect.Signature([*several, *keywords])  # type: ignore[attr-defined]
    return call


def in_flow(function: Callable[..., Any], call: Any) -> None:
    calling.append(lambda: outcome(function, call))
    try:
        done = testing.run(body)
    except KitaruUsageError as error:
        assert "answer" in error.message  # noqa: PT017
        return
    assert done.status == "completed", done.error


def decorated(name: str) -> Callable[..., Any]:
    """Of a function, which is called or executed then."""

    def decorate(**options: Any) -> None:
        made = getattr(kitaru, name)(**options)(plain)
        if name == "checkpoint":
            made()

    return taking(decorate, (*DECORATORS[name], "odd"))


def mapped(name: str, **options: Any) -> None:
    for future in getattr(step, name)("ab", **options):
        future.result()


IN_A_BODY: dict[str, Callable[..., Any]] = {
    **{name: getattr(kitaru, name) for name in IN_FLOWS},
    "checkpoint": decorated("checkpoint"),
    "step()": taking(step, ("id", "after", "topic"), others=True),
    "step.submit": taking(lambda *args, **kwargs: step.submit(*args, **kwargs).result(), ("id", "after"), others=True),
    **{f"step.{name}": taking(partial(mapped, name), ("id", "max_concurrency")) for name in ("map", "product")},
    "flow.run": taking(lambda *args, **kwargs: flow(plain).run(*args, **kwargs).wait(), FLOW_OPTIONS, others=True),
}
OUT_OF_A_BODY: dict[str, Callable[..., Any]] = {
    **{name: getattr(kitaru, name) for name in (*OUTSIDE, "flow", "checkpoint")},
    **{name: getattr(kitaru, name) for name in CLASSES if name not in NOT_CALLED},
    "@flow": decorated("flow"),
    "@checkpoint": decorated("checkpoint"),
    "flow.invoke": flow(plain).invoke,
    "flow.replay": flow(plain).replay,
    "flow.deployment": flow(plain).deployment,
    "flow.deployments": flow(plain).deployments,
    "flow.bind": flow(plain).bind,
    "step()": IN_A_BODY["step()"],
}


def test_every_public_name_is_called() -> None:
    """And every method of what decorators make; `deploy` builds, and has its own tests."""
    called = {*IN_A_BODY, *OUT_OF_A_BODY}
    methods = {
        f"{owner}.{name}"
        for owner, kind in (("flow", Flow), ("step", Checkpoint))
        for name, each in vars(kind).items()
        if inspect.isfunction(each) and not name.startswith("_")
    }

    assert set(kitaru.__all__) - called == {*NOT_CALLED, "__version__"}
    assert methods - called == {"flow.deploy"}


@pytest.mark.parametrize("name", IN_A_BODY)
def test_what_a_body_calls_gives_a_value_or_one_error(name: str) -> None:
    function = IN_A_BODY[name]

    @quietly(EXAMPLES if inspect.signature(function).parameters else 1)
    @given(calls(inspect.signature(function), ["nobody"]))
    def each(call: Any) -> None:
        in_flow(function, call)

    each()


@pytest.mark.parametrize("value", [nested(20_000), keyed(900)], ids=["lists", "dicts"])
@pytest.mark.parametrize(("name", "parameter"), [("step()", "topic"), ("wait", "metadata")])
def test_what_is_nested_deeply_gives_a_value_or_one_error(name: str, parameter: str, value: Any) -> None:
    in_flow(IN_A_BODY[name], Call([], {parameter: value}))


@pytest.mark.parametrize("name", OUT_OF_A_BODY)
def test_what_is_called_outside_gives_a_value_or_one_error(name: str) -> None:
    function = OUT_OF_A_BODY[name]

    @quietly(EXAMPLES)
    @given(calls(inspect.signature(function), ["nobody"]))
    def each(call: Any) -> None:
        outcome(function, call)

    each()
