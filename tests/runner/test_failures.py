"""A recorded failure is rebuilt without its `__init__`, and says what it said."""

from __future__ import annotations

import asyncio
import errno
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attempts import TestExecution

import kitaru
import kitaru_registry
import kitaru_runner
from kitaru import KitaruUsageError, KitaruUserCodeError, checkpoint
from kitaru_runner.values.exception_parts import REBUILT_FROM
from kitaru_runner.values.failures import describe_failure, rebuild


class RateLimited(Exception):
    """Asks for what nobody keeps."""

    def __init__(self, service: str, *, retry_after: float, response: object) -> None:
        super().__init__(f"{service} is rate limited")
        self.service = service
        self.retry_after = retry_after
        if response is None:
            raise AssertionError("__init__ ran again")


class Slotted(Exception):
    __slots__ = ("code", "unset")

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Unbuildable(Exception):
    def __new__(cls, *, needed: str) -> Unbuildable:
        return super().__new__(cls, needed)

    def __init__(self, *, needed: str) -> None:
        super().__init__(needed)


class Unbuildables(ExceptionGroup[Exception]):
    def __new__(cls, message: str, inner: list[Exception], *, needed: int = 0) -> Unbuildables:
        if isinstance(inner[0], ValueError) and REBUILT_FROM in vars(inner[0]):
            raise AssertionError("made of what was recorded")
        return super().__new__(cls, message, inner)


def caught(raising: Callable[[], Any]) -> BaseException:
    try:
        raising()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def recorded(error: BaseException) -> BaseException:
    """As it comes out of a journal, which holds JSON."""
    return rebuild(json.loads(json.dumps(describe_failure(error))))


def raise_(error: BaseException) -> Any:
    raise error


RAISING: list[Callable[[], Any]] = [
    lambda: raise_(ValueError("no", 3)),
    lambda: {}["missing"],
    lambda: Path("/no/such/file").read_text(),
    lambda: raise_(ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
    lambda: raise_(TimeoutError("too slow")),
    lambda: b"\xff".decode(),
    lambda: "\ud800".encode(),
    lambda: __import__("no_such_module"),
    lambda: json.loads("{"),
    lambda: compile("a b", "file.py", "exec"),
    lambda: 1 / 0,
    lambda: pickle.loads(b""),
    lambda: raise_(StopAsyncIteration()),
    lambda: raise_(KitaruUsageError("wrong", hint="do it right")),
    lambda: raise_(RateLimited("model", retry_after=2.5, response=object())),
    lambda: raise_(Slotted(7)),
]


@pytest.mark.parametrize("raising", RAISING)
def test_a_failure_comes_back_with_its_type_its_text_and_its_arguments(raising: Callable[[], Any]) -> None:
    error = caught(raising)

    back = recorded(error)

    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.args == error.args


def test_attributes_come_back() -> None:
    back = recorded(caught(lambda: raise_(RateLimited("model", retry_after=2.5, response=object()))))
    assert isinstance(back, RateLimited)
    assert (back.service, back.retry_after) == ("model", 2.5)

    missing = recorded(caught(lambda: Path("/no/such/file").read_text()))
    assert isinstance(missing, FileNotFoundError)
    assert (missing.errno, missing.filename) == (errno.ENOENT, "/no/such/file")

    usage = recorded(KitaruUsageError("wrong", hint="do it right"))
    assert isinstance(usage, KitaruUsageError)
    assert usage.hint == "do it right"

    slotted = recorded(Slotted(7))
    assert isinstance(slotted, Slotted)
    assert slotted.code == 7


def test_what_cannot_be_kept_is_left_out() -> None:
    error = ValueError("with a lock")
    error.response = (number for number in range(3))  # type: ignore[attr-defined]

    back = recorded(error)

    assert (type(back), str(back)) == (ValueError, "with a lock")


def test_one_that_has_no_name_and_no_base_is_a_user_code_error_that_says_the_same() -> None:
    back = recorded(type("Local", (Exception,), {})("of nowhere"))

    assert isinstance(back, KitaruUserCodeError)
    assert (str(back), back.failure_origin) == ("Local: of nowhere", "user_code")


@pytest.mark.parametrize("error", [Unbuildable(needed="this"), Unbuildables("several", [ValueError("one")])])
def test_one_whose_class_makes_none_of_its_record_is_made_all_the_same(error: Exception) -> None:
    back = recorded(error)

    assert type(back) is type(error)
    assert str(back) == str(error)


def test_a_group_comes_back_with_its_members() -> None:
    limited = RateLimited("model", retry_after=2.5, response=object())
    back = recorded(ExceptionGroup("several", [ValueError("one"), ExceptionGroup("inner", [limited])]))

    assert isinstance(back, ExceptionGroup)
    assert str(back) == "several (2 sub-exceptions)"
    first, inner = back.exceptions
    assert (type(first), str(first)) == (ValueError, "one")
    assert isinstance(inner, ExceptionGroup)
    assert isinstance(inner.exceptions[0], RateLimited)
    assert inner.exceptions[0].retry_after == 2.5


def test_what_it_came_from_and_its_notes_come_back() -> None:
    def convert() -> None:
        try:
            int("two")
        except ValueError as error:
            error.add_note("in line 3")
            raise RuntimeError("not read") from error

    back = recorded(caught(convert))

    assert isinstance(back.__cause__, ValueError)
    assert str(back.__cause__) == "invalid literal for int() with base 10: 'two'"
    assert back.__cause__.__notes__ == ["in line 3"]


def test_an_endless_chain_is_recorded_in_part() -> None:
    error = ValueError("round")
    error.__cause__ = ValueError("and round")
    error.__cause__.__cause__ = error

    assert isinstance(recorded(error).__cause__, ValueError)


def test_a_flow_catches_a_checkpoint_s_group_by_its_members(execution: TestExecution) -> None:
    seen = []

    @checkpoint
    async def several() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails(ValueError("one")))
            group.create_task(fails(RateLimited("model", retry_after=2.5, response=object())))

    async def fails(error: Exception) -> None:
        raise error

    @checkpoint
    def step() -> None:
        pass

    async def body() -> None:
        try:
            await several()
        except* ValueError as group:
            seen.append([str(error) for error in group.exceptions])
        except* RateLimited as group:
            seen.append([str(error) for error in group.exceptions])
        step()

    execution.attempt(body, writes=1)
    execution.attempt(body)

    assert execution.status == "completed"
    assert seen == [["one"], ["model is rate limited"]] * 2


def test_a_retry_executes_a_checkpoint_of_which_a_member_reached_the_top(execution: TestExecution) -> None:
    @checkpoint
    def several() -> None:
        raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])

    def body() -> None:
        try:
            several()
        except* KeyError:
            pass

    execution.attempt(body)

    error = execution.record.error
    assert error is not None
    assert (error.type, error.failed) == ("ExceptionGroup", ("several",))


def test_the_record_tells_people_where(execution: TestExecution) -> None:
    described = describe_failure(caught(RAISING[0]), checkpoint="research#2")

    assert (described["type"], described["message"], described["checkpoint"]) == (
        "ValueError", "('no', 3)", "research#2",
    )  # fmt: skip
    assert described["file"] == __file__
    assert described["line"] == raise_.__code__.co_firstlineno + 1
    assert "Traceback" in described["traceback"]


@pytest.mark.parametrize("raising", [RAISING[0], RAISING[2], RAISING[5], RAISING[6], RAISING[14]])
def test_the_first_run_and_the_replay_raise_the_same(execution: TestExecution, raising: Callable[[], Any]) -> None:
    seen = []

    @checkpoint
    def fail() -> Any:
        return raising()

    @checkpoint
    def step() -> None:
        pass

    def body() -> None:
        try:
            fail()
        except Exception as error:
            state = {key: value for key, value in vars(error).items() if not key.startswith("__")}
            seen.append((type(error), str(error), error.args, state))
        step()

    execution.attempt(body, writes=1)
    execution.attempt(body)

    assert execution.status == "completed"
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_a_failure_that_passes_through_checkpoints_is_not_recorded_within_itself(execution: TestExecution) -> None:
    @checkpoint
    def inner() -> None:
        raise ValueError("deep down")

    @checkpoint
    def middle() -> None:
        inner()

    @checkpoint
    def outer() -> None:
        middle()

    execution.attempt(outer)

    error = execution.record.error
    assert error is not None
    assert (error.type, error.message) == ("ValueError", "deep down")
    assert all("__kitaru_failure__" not in (row.error or "") for row in execution.rows)


def test_a_recorded_traceback_begins_in_the_users_code() -> None:
    def fail() -> None:
        raise ValueError("no")

    error = raised_through_our_frame(fail)

    recorded = describe_failure(error)["traceback"]

    assert recorded.startswith("Traceback (most recent call last):\n")
    assert "in fail\n" in recorded
    assert "pretended" not in recorded


def test_the_traceback_of_an_error_of_kitaru_s_own_ends_in_the_users_code() -> None:
    described = describe_failure(caught(lambda: checkpoint(retries=-1)(len)))

    lines = described["traceback"].splitlines()
    assert lines[-1] == "kitaru_registry.errors.KitaruUsageError: retries=-1 is not a number of them"
    ours = tuple(f'  File "{Path(package.__path__[0])}/' for package in (kitaru, kitaru_runner, kitaru_registry))
    assert [line for line in lines if line.startswith(ours)] == []
    assert described["file"] == __file__


def raised_through_our_frame(call: Callable[[], object]) -> BaseException:
    """What reaches a caller through a frame of Kitaru's own."""
    namespace: dict[str, Any] = {"__name__": "kitaru_runner.pretended", "call": call}
    exec(compile("def run():\n    return call()\n", "pretended.py", "exec"), namespace)
    with pytest.raises(ValueError, match="no") as raised:
        namespace["run"]()
    error = raised.value
    assert error.__traceback__ is not None
    return error.with_traceback(error.__traceback__.tb_next)
