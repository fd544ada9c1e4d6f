"""Exceptions as records, and back.

A recorded exception is rebuilt without its `__init__`: that may ask for arguments which nobody kept. The first run
raises the rebuilt one too, so that a flow sees the same thing before and after a crash.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping
from types import FrameType, FunctionType, MemberDescriptorType, TracebackType
from typing import Any, cast

from kitaru_registry.errors import KitaruError, KitaruUserCodeError
from kitaru_runner import codec


class ExecutionCancelled(BaseException):
    """Raised at the next call of Kitaru's in an in-process run that was cancelled; a deployed one is just ended."""


OWN_PACKAGES = ("kitaru_runner", "kitaru_registry", "kitaru")
REBUILT_FROM = "__kitaru_failure__"
# What an AttributeError was raised about may be anything, and as large.
LEFT_OUT = frozenset({"__notes__", REBUILT_FROM, "obj"})


def describe_failure(
    error: BaseException, *, origin: str = "user_code", checkpoint: str | None = None
) -> dict[str, Any]:
    """The exception as JSON: what people read (type, message, traceback, file, line) and what rebuilds it."""
    frames = user_frames(error)
    described: dict[str, Any] = {
        "type": type(error).__name__,
        "class": codec.type_name(type(error)),
        "message": str(error),
        "traceback": "".join(traceback.format_exception(type(error), error, from_user_code(error))),
        "origin": origin,
    }
    if checkpoint is not None:
        described["checkpoint"] = checkpoint
    if frames:
        described["file"], described["line"] = frames[-1].filename, frames[-1].lineno
    if isinstance(error, KitaruError) and error.hint:
        described["hint"] = error.hint
    args = taggable({"args": list(error.args)})
    return {**described, **args, "state": taggable(dict(attributes(error)))}


def attributes(error: BaseException) -> Iterator[tuple[str, object]]:
    """What an exception holds beside its arguments, in slots too: an OSError its errno and file name."""
    for kind in type(error).__mro__:
        for name, member in vars(kind).items():
            if isinstance(member, MemberDescriptorType) and not name.startswith("__") and name not in LEFT_OUT:
                value = getattr(error, name, None)
                if value is not None:
                    yield name, value
    yield from ((name, value) for name, value in vars(error).items() if name not in LEFT_OUT)


def taggable(values: Mapping[str, object]) -> dict[str, Any]:
    """Those of the values that can be recorded, as they are recorded."""
    found = {}
    for name, value in values.items():
        try:
            found[name] = codec.tag(value)
        except codec.UNFIT:
            continue
    return found


def from_user_code(error: BaseException) -> TracebackType | None:
    """The traceback from the first frame that is not ours; all of it where every frame is."""
    found = error.__traceback__
    while found is not None and is_ours(found.tb_frame):
        found = found.tb_next
    return found or error.__traceback__


def is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in OWN_PACKAGES


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
    """The exception that `describe_failure` described; KitaruUserCodeError where its class cannot be had."""
    kind = codec.find_type(described["class"])
    if kind is not None and issubclass(kind, BaseException):
        try:
            error = made_without_init(kind)
            error.args = tuple(codec.untag(described["args"])) if "args" in described else (described["message"],)
            for name, value in described.get("state", {}).items():
                setattr(error, name, codec.untag(value))
            str(error)
        except Exception:  # whatever a class does in __new__, __setattr__ or __str__, the failure itself is known
            error = None
        if isinstance(error, BaseException):
            error.__dict__[REBUILT_FROM] = described
            if "cause" in described:
                error.__cause__ = rebuild(described["cause"])
            return error
    replaced = KitaruUserCodeError(f"{described['type']}: {described['message']}", failure_origin=described["origin"])
    replaced.__dict__[REBUILT_FROM] = described
    return replaced


def made_without_init(kind: type[BaseException]) -> BaseException:
    """An instance, by its own `__new__`, or the first of Python's that may: RuntimeError's makes no TimeoutError."""
    if isinstance(kind.__new__, FunctionType):
        return cast(BaseException, kind.__new__(kind))
    base: Any
    for base in kind.__mro__[:-1]:
        if "__new__" in vars(base):
            try:
                return cast(BaseException, base.__new__(kind))
            except TypeError:
                continue
    raise TypeError(f"{kind} cannot be made")


def recorded_failure(error: BaseException) -> Mapping[str, Any] | None:
    """The record that `rebuild` made this exception from."""
    found: Mapping[str, Any] | None = error.__dict__.get(REBUILT_FROM)
    return found
