"""Exceptions as JSON, and back: what one is made of, and one that is made of that.

One is rebuilt without its `__init__`: that may ask for arguments which nobody kept.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from kitaru_registry.errors import KitaruUserCodeError
from kitaru_registry.journal.cutting import MOST_INNER
from kitaru_runner.values.exception_parts import (
    REBUILT_FROM,
    Form,
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
from kitaru_runner.values.named_types import find_type, type_name

NO_MESSAGE = "(no message: "
LONGEST_CHAIN = 10


def contents(
    error: BaseException, checkpoint: str | None, form: Form, *, seen: set[int], depth: int = 0
) -> dict[str, Any]:  # fmt: skip
    """What an exception is made of: arguments, attributes, the exceptions that it groups and the one it came from.

    Args:
        seen: those of which the inner ones were described, and need not be once more.
    """
    found = parts_of(error, form).described()
    call = call_of(error, form)
    if call is not None:
        found["made"] = call
    bases = bases_of(type(error))
    if bases and type(error).__module__ != "builtins":
        found["bases"] = bases
    if depth < LONGEST_CHAIN and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, BaseExceptionGroup):
            kept = error.exceptions[:MOST_INNER]
            members = [describe_inner(inner, checkpoint, form, seen=seen, depth=depth + 1) for inner in kept]
            found["group"] = {"message": error.message, "exceptions": members}
        if error.__cause__ is not None:
            found["from"] = describe_inner(error.__cause__, None, form, seen=seen, depth=depth + 1)
        elif error.__context__ is not None and not error.__suppress_context__:
            found["context"] = describe_inner(error.__context__, None, form, seen=seen, depth=depth + 1)
    return found


def describe_inner(
    error: BaseException, checkpoint: str | None, form: Form, *, seen: set[int], depth: int
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
    inner = contents(error, checkpoint, form, seen=seen, depth=depth)
    # Of a child execution: what it came from is that one's.
    return {**described, **inner, **({"cause": recorded["cause"]} if "cause" in recorded else {})}


def text_of(error: BaseException) -> str:
    """Its message, whatever its class does in `__str__`."""
    try:
        return str(error)
    except Exception as broken:
        return f"{NO_MESSAGE}str() of it raises {type(broken).__name__})"


def described_whole(error: BaseException, form: Form) -> dict[str, Any] | None:
    """An exception that is a value, not a failure; None: it would come back as another.

    Of one that another has among its arguments or attributes, not what it came from; and none that is in such a one:
    they may hold each other.
    """
    depth = depth_within()
    if depth > 1:
        return None
    described = describe_inner(error, None, form, seen=set(), depth=LONGEST_CHAIN if depth else 0)
    lost = any(name in described for name in ("lost", "http")) or ("args" not in described and "group" not in described)
    return None if lost or type(rebuild(described, form)) is not type(error) else described


def rebuild(described: Mapping[str, Any], form: Form) -> BaseException:
    """The exception that was described.

    Where its class cannot be had, or cannot say its text without what was lost, a class of its name stands in, derived
    from the nearest base that can be had. Where that is Exception, it is a KitaruUserCodeError.
    """
    error = next(made_as_described(described, form), None)
    if error is None:
        message = f"{described['type']}: {described['message']}"
        error = KitaruUserCodeError(message, failure_origin=described["origin"])
    error.__dict__[REBUILT_FROM] = described
    came_from = described.get("cause") or described.get("from")
    if came_from is not None:
        BaseException.__setattr__(error, "__cause__", rebuild(came_from, form))
    elif "context" in described:
        BaseException.__setattr__(error, "__context__", rebuild(described["context"], form))
    return error


def made_as_described(described: Mapping[str, Any], form: Form) -> Iterator[BaseException]:
    """By its class; then by what may stand in for it, nearest first."""
    own = find_type(described["class"])
    named = own.__mro__ if own is not None else map(find_type, described.get("bases", ()))
    bases = [kind for kind in named if kind is not None and issubclass(kind, BaseException)]
    if own in bases:
        yield from made_if_possible(own, described, form)
    for base in bases:
        if base in (Exception, BaseException):
            return
        yield from made_if_possible(base, described, form, stands_in=True)


def made_if_possible(
    kind: Any, described: Mapping[str, Any], form: Form, *, stands_in: bool = False
) -> Iterator[BaseException]:  # fmt: skip
    try:
        error = made(stand_in(kind, described["class"]) if stands_in else kind, described, form)
        give(error, described, form)
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


def made(kind: Any, described: Mapping[str, Any], form: Form) -> BaseException:
    if "group" in described and issubclass(kind, BaseExceptionGroup):
        group = described["group"]
        return made_group(kind, group["message"], [rebuild(inner, form) for inner in group["exceptions"]])
    own = "made" in described and not can_be_made(kind)
    error = made_by(kind, described["made"], form) if own else made_without_init(kind)
    BaseException.__setattr__(error, "args", args_of(described, form))
    return error


def args_of(described: Mapping[str, Any], form: Form) -> tuple[Any, ...]:
    try:
        return tuple(form.untag(described["args"]))
    except Exception:  # they were not recorded, or their classes are not here
        return (described["message"],)


def rebuilt_value(described: Mapping[str, Any], form: Form) -> BaseException:
    """It is nobody's failure until it is raised."""
    error = rebuild(described, form)
    del error.__dict__[REBUILT_FROM]
    return error


def recorded_failure(error: BaseException) -> Mapping[str, Any] | None:
    """The record that `rebuild` made this exception from."""
    found: Mapping[str, Any] | None = error.__dict__.get(REBUILT_FROM)
    return found
