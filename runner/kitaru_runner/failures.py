"""Exceptions as records, and back.

A recorded exception is rebuilt without its `__init__`: that may ask for arguments which nobody kept. The first run
raises the rebuilt one too, so that a flow sees the same thing before and after a crash.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from kitaru_registry.errors import KitaruError, KitaruUserCodeError
from kitaru_runner import codec

OWN_PACKAGES = ("kitaru_runner", "kitaru_registry", "kitaru")


def describe_failure(
    error: BaseException, *, origin: str = "user_code", checkpoint: str | None = None
) -> dict[str, Any]:
    """The exception as JSON: what people read (type, message, traceback, file, line) and what rebuilds it."""
    frames = user_frames(error)
    described: dict[str, Any] = {
        "type": type(error).__name__,
        "class": codec.type_name(type(error)),
        "message": str(error),
        "traceback": "".join(traceback.format_exception(type(error), error, error.__traceback__)),
        "origin": origin,
    }
    if checkpoint is not None:
        described["checkpoint"] = checkpoint
    if frames:
        described["file"], described["line"] = frames[-1].filename, frames[-1].lineno
    if isinstance(error, KitaruError) and error.hint:
        described["hint"] = error.hint
    try:
        described["args"] = codec.tag(list(error.args))
        described["state"] = codec.tag({k: v for k, v in vars(error).items() if k != "__notes__"})
    except (codec.NotTaggable, RecursionError):
        described.pop("args", None)
    return described


def user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames that are not ours, outermost first."""
    found = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in OWN_PACKAGES:
            found.append(
                traceback.FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name, lookup_line=False)
            )
    return found


def rebuild(described: Mapping[str, Any]) -> BaseException:
    """The exception that `describe_failure` described; KitaruUserCodeError where its class cannot be had."""
    kind = codec.find_type(described["class"])
    if kind is not None and issubclass(kind, BaseException):
        try:
            error = kind.__new__(kind)
            error.args = tuple(codec.untag(described["args"])) if "args" in described else (described["message"],)
            for name, value in codec.untag(described.get("state", {})).items():
                setattr(error, name, value)
            str(error)
        except Exception:  # whatever a class does in __new__, __setattr__ or __str__, the failure itself is known
            error = None
        if isinstance(error, BaseException):
            error.__dict__["__kitaru_failure__"] = described
            return error
    replaced = KitaruUserCodeError(f"{described['type']}: {described['message']}", failure_origin=described["origin"])
    replaced.__dict__["__kitaru_failure__"] = described
    return replaced


def recorded_failure(error: BaseException) -> Mapping[str, Any] | None:
    """The record that `rebuild` made this exception from."""
    found: Mapping[str, Any] | None = error.__dict__.get("__kitaru_failure__")
    return found
