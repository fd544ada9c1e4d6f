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
from kitaru_runner.cutting import MOST_INNER, cut_failure
from kitaru_runner.named_types import find_type, type_name
from kitaru_runner.tagged import tag, untag


class ExecutionCancelled(BaseException):
    """Raised at the next call of Kitaru's in an in-process run that was cancelled; a deployed one is just ended."""


class ProcessEnded(KeyboardInterrupt):
    """Stands for the end of the process. Not an Exception, so that no `except Exception` of a flow survives it."""


OWN_PACKAGES = ("kitaru_runner", "kitaru_registry", "kitaru")
REBUILT_FROM = "__kitaru_failure__"
FAILED_CALL = "__kitaru_call__"
"""On an exception that is made anew in each attempt: the key of the recorded outcome that it stands for."""
UNKEPT = 'not kept, because of record="digest"'
# What an AttributeError was raised about may be anything, and as large.
LEFT_OUT = frozenset({REBUILT_FROM, FAILED_CALL, "obj"})
LEFT_OUT_OF_GROUPS = frozenset({"message", "exceptions"})
LONGEST_CHAIN = 10


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
    return cut_failure({**described, **contents(error, checkpoint, seen=set())})


def text_of(error: BaseException) -> str:
    """Its message, whatever its class does in `__str__`."""
    try:
        return str(error)
    except Exception as broken:
        return f"(no message: str() of it raises {type(broken).__name__})"


def contents(
    error: BaseException, checkpoint: str | None, *, seen: set[int], depth: int = 0
) -> dict[str, Any]:  # fmt: skip
    """What an exception is made of: arguments, attributes, the exceptions that it groups and the one it came from.

    Args:
        seen: those of which the inner ones were described, and need not be once more.
    """
    found = {**taggable({"args": list(error.args)}), "state": taggable(dict(attributes(error)))}
    if depth < LONGEST_CHAIN and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, BaseExceptionGroup):
            kept = error.exceptions[:MOST_INNER]
            members = [describe_inner(inner, checkpoint, seen=seen, depth=depth + 1) for inner in kept]
            found["group"] = {"message": error.message, "exceptions": members}
        if error.__cause__ is not None:
            found["from"] = describe_inner(error.__cause__, None, seen=seen, depth=depth + 1)
    return found


def describe_inner(
    error: BaseException, checkpoint: str | None, *, seen: set[int], depth: int
) -> dict[str, Any]:  # fmt: skip
    """As much of an exception within another as rebuilds it; the outer one's traceback shows it.

    Args:
        checkpoint: whose failure it is a part of; by default that of its own record. So a member that a flow takes
            out of a group, and that ends it, is that checkpoint's failure still.
    """
    recorded = recorded_failure(error) or {}
    described: dict[str, Any] = {
        "type": type(error).__name__,
        "class": type_name(type(error)),
        "message": text_of(error),
        "origin": recorded.get("origin", "user_code"),
    }
    checkpoint = checkpoint or recorded.get("checkpoint")
    if checkpoint is not None:
        described["checkpoint"] = checkpoint
    inner = contents(error, checkpoint, seen=seen, depth=depth)
    # Of a child execution: what it came from is that one's.
    return {**described, **inner, **({"cause": recorded["cause"]} if "cause" in recorded else {})}


def describe_unkept(error: BaseException, *, checkpoint: str) -> dict[str, Any]:
    """As `describe_failure`, without what a value may have got into: message, arguments, attributes, causes."""
    described = describe_failure(error, checkpoint=checkpoint)
    frames = "".join(traceback.format_tb(from_user_code(error)))
    kept: dict[str, Any] = {
        name: described[name] for name in ("type", "class", "origin", "checkpoint", "file", "line") if name in described
    }
    return {
        **kept,
        "message": UNKEPT,
        "traceback": f"Traceback (most recent call last):\n{frames}{described['type']}: {UNKEPT}\n",
    }


def attributes(error: BaseException) -> Iterator[tuple[str, object]]:
    """What an exception holds beside its arguments, in slots too: an OSError its errno and file name."""
    left_out = LEFT_OUT | LEFT_OUT_OF_GROUPS if isinstance(error, BaseExceptionGroup) else LEFT_OUT
    for kind in type(error).__mro__:
        for name, member in vars(kind).items():
            if isinstance(member, MemberDescriptorType) and not name.startswith("__") and name not in left_out:
                value = getattr(error, name, None)
                if value is not None:
                    yield name, value
    yield from ((name, value) for name, value in vars(error).items() if name not in LEFT_OUT)


def taggable(values: Mapping[str, object]) -> dict[str, Any]:
    """Those of the values that can be recorded, as they are recorded."""
    found = {}
    for name, value in values.items():
        try:
            found[name] = tag(value)
        except Exception:  # beside what does not fit: whatever a codec, or a property, of the user's raises
            continue
    return found


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
    if name == "__main__":  # of `python -m kitaru_runner.isolated`
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
    """The exception that `describe_failure` described; KitaruUserCodeError where its class cannot be had."""
    kind = find_type(described["class"])
    if kind is not None and issubclass(kind, BaseException):
        try:
            error = made_without_init(kind) if "group" not in described else made_group(kind, described["group"])
            if "group" not in described:
                error.args = tuple(untag(described["args"])) if "args" in described else (described["message"],)
            for name, value in described.get("state", {}).items():
                setattr(error, name, untag(value))
            str(error)
        except Exception:  # whatever a class does in __new__, __setattr__ or __str__, the failure itself is known
            error = None
        if isinstance(error, BaseException):
            error.__dict__[REBUILT_FROM] = described
            came_from = described.get("cause") or described.get("from")
            if came_from is not None:
                error.__cause__ = rebuild(came_from)
            return error
    replaced = KitaruUserCodeError(f"{described['type']}: {described['message']}", failure_origin=described["origin"])
    replaced.__dict__[REBUILT_FROM] = described
    return replaced


def made_group(kind: Any, group: Mapping[str, Any]) -> BaseException:
    return cast(BaseException, kind.__new__(kind, group["message"], [rebuild(inner) for inner in group["exceptions"]]))


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
