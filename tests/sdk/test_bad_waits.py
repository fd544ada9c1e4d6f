"""What waits and sleeps refuse: each with what to write, and before anything is asked of anybody."""

from __future__ import annotations

import _thread
import socket
from collections.abc import Callable
from concurrent.futures import Future
from datetime import date
from typing import Any, cast

import pytest

from kitaru import (
    KitaruContextError,
    KitaruUsageError,
    flow,
    log,
    save,
    sleep,
    sleep_until,
    testing,
    wait,
    wait_any,
)  # fmt: skip


def cause(body: Callable[[], Any]) -> BaseException:
    """What ends a flow with that body, which waits for nobody."""
    ended = testing.run(flow(body))
    assert ended.waits == ()
    assert ended.error is not None
    return ended.error


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (lambda: wait(name=cast("Any", 5)), "name=5 cannot name a wait"),
        (lambda: wait(name="a/b"), "name='a/b' cannot name a wait"),
        (lambda: wait(name="a\nb"), "cannot name a wait"),
        (lambda: wait(question=cast("Any", 5)), "question=5 is no text"),
        (lambda: wait(metadata=cast("Any", [1])), "metadata= of a wait cannot be shown: it is of type list"),
        (lambda: wait(metadata={"at": date(2026, 1, 1)}), "metadata= of a wait cannot be shown"),
        (lambda: wait(metadata={"score": float("nan")}), "metadata= of a wait cannot be shown"),
        (lambda: wait(schema={"type": "boolean"}), "it is no type"),
        (lambda: wait(schema=socket.socket), "Unable to generate pydantic-core schema"),
        (lambda: wait(schema="Nowhere"), "not fully defined"),
        (lambda: wait(timeout=-1), "timeout of -1 is no time"),
        (lambda: wait_any("lead", "boss"), "a question of type str"),  # type: ignore[arg-type]  # that is the point
        (lambda: wait_any([{"name": "lead"}]), "a question of type list"),  # type: ignore[arg-type]  # as above
        (lambda: wait_any({"name": "lead", "timeout": 3}, {"name": "boss"}), "a question with timeout"),
        (lambda: wait_any({"name": 5}, {"name": "boss"}), "name=5 cannot name a wait"),
        (lambda: wait_any({"name": "lead"}), "questions lead"),
        (lambda: sleep(cast("Any", None)), "sleep of None is no time"),
        (lambda: sleep_until(cast("Any", date(2026, 1, 1))), "is no moment"),
    ],
)
def test_it_says_what_to_write(body: Callable[[], Any], said: str) -> None:
    error = cause(body)

    assert isinstance(error, KitaruUsageError)
    assert said in str(error)
    assert error.hint


@pytest.mark.parametrize("call", [lambda: wait(), lambda: save("draft", 1), lambda: log(words=1)])
def test_a_thread_without_the_context_is_told_apart_from_no_flow(call: Callable[[], Any]) -> None:
    def body() -> Any:
        outcome: Future[Any] = Future()

        def run() -> None:
            try:
                outcome.set_result(call())
            except Exception as error:
                outcome.set_exception(error)

        # Such as a library's own: the flow does not see it begin.
        _thread.start_new_thread(run, ())
        return outcome.result()

    error = cause(body)

    assert isinstance(error, KitaruContextError)
    assert "in a thread without the flow's context" in str(error)
