"""Exceptions as records, and back.

A recorded exception is rebuilt without its `__init__`: that may ask for arguments which nobody kept. The first run
raises the rebuilt one too, so that a flow sees the same thing before and after a crash.
"""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any

from kitaru_registry.errors import KitaruError, KitaruUserCodeError
from kitaru_runner.cutting import MOST_INNER, cut_failure
from kitaru_runner.exception_parts import (
    REBUILT_FROM,
    bases_of,
    call_of,
    can_be_made,
    depth_within,
    give,
    made_by,
    made_group,
    made_without_init,
    parts_of,
)  # fmt: skip
from kitaru_runner.named_types import find_type, type_name
from kitaru_runner.tagged import untag


class ExecutionCancelled(BaseException):
    """Raised at the next call of Kitaru's in an in-process run that was cancelled; a deployed one is just ended."""


class ProcessEnded(KeyboardInterrupt):
    """Stands for the end of the process. Not an Exception, so that no `except Exception` of a flow survives it."""


OWN_PACKAGES = ("kitaru_runner", "kitaru_registry", "kitaru")
KEPT_OF_UNKEPT = ("type", "class", "bases", "origin", "checkpoint", "file", "line")
UNKEPT = 'not kept, because of record="digest"'
NO_MESSAGE = "(no message: "
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
        return f"{NO_MESSAGE}str() of it raises {type(broken).__name__})"


def contents(
    error: BaseException, checkpoint: str | None, *, seen: set[int], depth: int = 0
) -> dict[str, Any]:  # fmt: skip
    """What an exception is made of: arguments, attributes, the exceptions that it groups and the one it came from.

    Args:
        seen: those of which the inner ones were described, and need not be once more.
    """
    found = parts_of(error).described()
    call = call_of(error)
    if call is not None:
        found["made"] = call
    bases = bases_of(type(error))
    if bases and type(error).__module__ != "builtins":
        found["bases"] = bases
    if depth < LONGEST_CHAIN and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, BaseExceptionGroup):
            kept = error.exceptions[:MOST_INNER]
            members = [describe_inner(inner, checkpoint, seen=seen, depth=depth + 1) for inner in kept]
            found["group"] = {"message": error.message, "exceptions": members}
        if error.__cause__ is not None:
            found["from"] = describe_inner(error.__cause__, None, seen=seen, depth=depth + 1)
        elif error.__context__ is not None and not error.__suppress_context__:
            found["context"] = describe_inner(error.__context__, None, seen=seen, depth=depth + 1)
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
    """The exception that `describe_failure` described.

    Where its class cannot be had, or cannot say its text without what was lost, a class of its name stands in, derived
    from the nearest base that can be had. Where that is Exception, it is a KitaruUserCodeError.
    """
    error = next(made_as_described(described), None)
    if error is None:
        message = f"{described['type']}: {described['message']}"
        error = KitaruUserCodeError(message, failure_origin=described["origin"])
    error.__dict__[REBUILT_FROM] = described
    came_from = described.get("cause") or described.get("from")
    if came_from is not None:
        BaseException.__setattr__(error, "__cause__", rebuild(came_from))
    elif "context" in described:
        BaseException.__setattr__(error, "__context__", rebuild(described["context"]))
    return error


def made_as_described(described: Mapping[str, Any]) -> Iterator[BaseException]:
    """By its class; then by what may stand in for it, nearest first."""
    own = find_type(described["class"])
    named = own.__mro__ if own is not None else map(find_type, described.get("bases", ()))
    bases = [kind for kind in named if kind is not None and issubclass(kind, BaseException)]
    if own in bases:
        yield from made_if_possible(own, described)
    for base in bases:
        if base in (Exception, BaseException):
            return
        yield from made_if_possible(base, described, stands_in=True)


def made_if_possible(kind: Any, described: Mapping[str, Any], *, stands_in: bool = False) -> Iterator[BaseException]:
    try:
        error = made(stand_in(kind, described["class"]) if stands_in else kind, described)
        give(error, described)
        if not stands_in and not described["message"].startswith(NO_MESSAGE):
            str(error)
    except Exception:  # whatever a class does, the failure itself is known
        return
    yield error


@functools.lru_cache(maxsize=1024)
def stand_in(base: Any, path: str) -> type[BaseException]:
    """A class of that name, whose instances say what the exception said."""

    def message(error: BaseException) -> str:
        return str(error.__dict__[REBUILT_FROM]["message"])

    module, _, qualname = path.partition(":")
    made_here = {"__module__": module, "__qualname__": qualname, "__str__": message}
    return type(qualname.rpartition(".")[2], (base,), made_here)


def made(kind: Any, described: Mapping[str, Any]) -> BaseException:
    if "group" in described and issubclass(kind, BaseExceptionGroup):
        group = described["group"]
        return made_group(kind, group["message"], [rebuild(inner) for inner in group["exceptions"]])
    own = "made" in described and not can_be_made(kind)
    error = made_by(kind, described["made"]) if own else made_without_init(kind)
    BaseException.__setattr__(error, "args", args_of(described))
    return error


def args_of(described: Mapping[str, Any]) -> tuple[Any, ...]:
    try:
        return tuple(untag(described["args"]))
    except Exception:  # they were not recorded, or their classes are not here
        return (described["message"],)


def described_whole(error: BaseException) -> dict[str, Any] | None:
    """An exception that is a value, not a failure; None: it would come back as another.

    Of one that another has among its arguments or attributes, not what it came from; and none that is in such a one:
    they may hold each other.
    """
    depth = depth_within()
    if depth > 1:
        return None
    described = describe_inner(error, None, seen=set(), depth=LONGEST_CHAIN if depth else 0)
    lost = any(name in described for name in ("lost", "http")) or ("args" not in described and "group" not in described)
    return None if lost or type(rebuild(described)) is not type(error) else described


def rebuilt_value(described: Mapping[str, Any]) -> BaseException:
    """It is nobody's failure until it is raised."""
    error = rebuild(described)
    del error.__dict__[REBUILT_FROM]
    return error


def recorded_failure(error: BaseException) -> Mapping[str, Any] | None:
    """The record that `rebuild` made this exception from."""
    found: Mapping[str, Any] | None = error.__dict__.get(REBUILT_FROM)
    return found
