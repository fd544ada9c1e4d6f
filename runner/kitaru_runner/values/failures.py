"""Exceptions as records, and back.

A recorded exception is rebuilt without its `__init__`: that may ask for arguments which nobody kept. The first run
raises the rebuilt one too, so that a flow sees the same thing before and after a crash.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any

from kitaru_registry.errors import KitaruError
from kitaru_registry.journal.cutting import cut_failure
from kitaru_runner.values import exceptions
from kitaru_runner.values.exceptions import LONGEST_CHAIN, text_of
from kitaru_runner.values.named_types import type_name
from kitaru_runner.values.tagged import FORM


class ExecutionCancelled(BaseException):
    """Raised at the next call of Kitaru's in an in-process run that was cancelled; a deployed one is just ended."""


class ProcessEnded(KeyboardInterrupt):
    """Stands for the end of the process. Not an Exception, so that no `except Exception` of a flow survives it."""


OWN_PACKAGES = ("kitaru_runner", "kitaru_registry", "kitaru")
KEPT_OF_UNKEPT = ("type", "class", "bases", "origin", "checkpoint", "file", "line")
UNKEPT = 'not kept, because of record="digest"'


def describe_failure(
    error: BaseException, *, origin: str = "user_code", checkpoint: str | None = None
) -> dict[str, Any]:
    """The exception as JSON: what people read (type, message, traceback, file, line) and what rebuilds it."""
    frames = user_frames(error)
    described: dict[str, Any] = {
        "type": type(error).__name__,
        "class": type_name(type(error)),
        "message": text_of(error),
        "traceback": shown_traceback(error),
        "origin": origin,
    }
    if checkpoint is not None:
        described["checkpoint"] = checkpoint
    if frames:
        described["file"], described["line"] = frames[-1].filename, frames[-1].lineno
    if isinstance(error, KitaruError) and error.hint:
        described["hint"] = error.hint
    return cut_failure({**described, **exceptions.contents(error, checkpoint, FORM, seen=set())})


def describe_unkept(error: BaseException, *, checkpoint: str) -> dict[str, Any]:
    """As `describe_failure`, without what a value may have got into: message, arguments, attributes, causes."""
    described = describe_failure(error, checkpoint=checkpoint)
    frames = "".join(traceback.format_tb(from_user_code(error)))
    kept: dict[str, Any] = {name: described[name] for name in KEPT_OF_UNKEPT if name in described}
    return {
        **kept,
        "message": UNKEPT,
        "traceback": f"Traceback (most recent call last):\n{frames}{described['type']}: {UNKEPT}\n",
    }


def shown_traceback(error: BaseException) -> str:
    """From the first frame that is not ours; of an error that Kitaru raised on purpose up to the last of these."""
    begin = from_user_code(error)
    try:
        told = traceback.TracebackException(type(error), error, begin)
        cut_chain(told)
        if isinstance(error, KitaruError):
            own = [is_ours(frame) for frame, _ in traceback.walk_tb(begin)]
            while own and own[-1] and not all(own):
                own.pop()
                told.stack.pop()
        return "".join(told.format())
    except Exception:  # whatever a class does in its properties, the failure itself is known
        frames = "".join(traceback.format_tb(begin))
        return f"Traceback (most recent call last):\n{frames}{type(error).__name__}: {text_of(error)}\n"


def cut_chain(told: traceback.TracebackException) -> None:
    """Leave the last of what an exception came from: to show a long chain takes a frame for each."""
    for _ in range(LONGEST_CHAIN):
        following = told.__cause__ or told.__context__
        if following is None:
            return
        told = following
    told.__cause__ = told.__context__ = None


def from_user_code(error: BaseException) -> TracebackType | None:
    """The traceback from the first frame that is not ours; all of it where every frame is."""
    found = error.__traceback__
    while found is not None and is_ours(found.tb_frame):
        found = found.tb_next
    return found or error.__traceback__


def is_ours(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    if name == "__main__":  # of `python -m kitaru_runner.child.isolated`
        name = str(frame.f_globals.get("__package__") or "")
    return name.partition(".")[0] in OWN_PACKAGES


def caller_line() -> dict[str, Any]:
    """File and line of the innermost frame that is not Kitaru's own."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        if not is_ours(frame):
            return {"file": frame.f_code.co_filename, "line": frame.f_lineno}
        frame = frame.f_back
    return {}


def user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames that are not ours, outermost first."""
    found = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        if not is_ours(frame):
            found.append(
                traceback.FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name, lookup_line=False)
            )
    return found


def rebuild(described: Mapping[str, Any]) -> BaseException:
    """The exception that `describe_failure` described."""
    return exceptions.rebuild(described, FORM)
