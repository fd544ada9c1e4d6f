"""`ignore=` and what a warning of other arguments says."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from kitaru import KitaruUsageError, checkpoint, flow, testing


@dataclass
class Message:
    text: str
    timestamp: datetime
    id: str = ""


class Context:
    """Has no canonical form."""


def a_message(text: str) -> Message:
    return Message(text, datetime.now(UTC), str(uuid.uuid4()))


@checkpoint
def answer(messages: list[Message], model: str) -> str:
    return f"{model}: {len(messages)}"


@checkpoint(ignore=("messages",))
def answer_without(messages: list[Message], model: str) -> str:
    return f"{model}: {len(messages)}"


@checkpoint(cache=True, ignore="ctx")
def looked_up(ctx: Any, name: str) -> str:
    return name.upper()


@checkpoint
def total(first: int, second: int) -> int:
    return first + second


def test_a_warning_names_what_differs_and_how_to_leave_it_out() -> None:
    @flow
    def talk() -> str:
        return answer([a_message("a"), a_message("b")], "small")

    (said,) = testing.run(talk, crash_at=2).warnings

    assert "messages[0].id (an id), messages[0].timestamp (a time), messages[1].id (an id) and 1 more" in said
    assert said.endswith('@checkpoint(ignore=("messages",))')


def test_of_many_messages_it_names_their_fields() -> None:
    @flow
    def talk() -> str:
        return answer([a_message(str(n)) for n in range(100)], "small")

    (said,) = testing.run(talk, crash_at=2).warnings

    assert "with now: messages[].id (an id), messages[].timestamp (a time);" in said


def test_of_more_than_it_looks_into_it_names_the_argument() -> None:
    @flow
    def talk() -> str:
        return answer([a_message("long" * 100) for _ in range(100)], "small")

    (said,) = testing.run(talk, crash_at=2).warnings

    assert "with now: messages" in said


def test_it_shows_numbers_and_no_texts() -> None:
    seen: list[int] = []

    @flow
    def add() -> int:
        seen.append(1)
        return total(1, len(seen))

    @checkpoint
    def call(token: str) -> None: ...

    @flow
    def secret() -> None:
        seen.append(1)
        call("sk-abcdef" * len(seen))

    assert testing.run(add, crash_at=2).warnings[0].endswith("than it is called with now: second (2)")
    seen.clear()
    assert testing.run(secret, crash_at=2).warnings[0].endswith(": token (a text of 18 characters)")


def test_ignored_arguments_are_not_compared() -> None:
    @flow
    def talk() -> str:
        return answer_without([a_message("a")], "small")

    outcome = testing.run(talk, crash_at=2)

    assert outcome.result == "small: 1"
    assert outcome.warnings == ()


def test_nor_are_they_part_of_a_cache_key() -> None:
    @flow
    def twice() -> list[str]:
        return [looked_up(Context(), "ana"), looked_up(None, "ana"), looked_up(Context(), "bo")]

    outcome = testing.run(twice)

    assert outcome.result == ["ANA", "ANA", "BO"]
    assert outcome.calls["looked_up"] == 2


@pytest.mark.parametrize(
    ("ignored", "said"),
    [("ctxt", "names no parameter of f"), (("ctx", "nothing"), "ignore='nothing'"), (7, "ignore=7 names no arguments")],
)
def test_a_name_that_is_no_parameter_is_refused(ignored: Any, said: str) -> None:
    def f(ctx: object) -> None: ...

    with pytest.raises(KitaruUsageError, match=said):
        checkpoint(ignore=ignored)(f)
