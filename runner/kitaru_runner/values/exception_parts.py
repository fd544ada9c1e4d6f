"""What an exception carries, as far as a record can hold it; and exceptions made of that, without their `__init__`."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, MemberDescriptorType
from typing import Any, NamedTuple, NoReturn, cast

from kitaru_registry.journal.json_text import PLAIN
from kitaru_runner.values import http_messages
from kitaru_runner.values.fields import is_made_by_object, keeps_itself_as, state_of
from kitaru_runner.values.named_types import is_named, type_name

REBUILT_FROM = "__kitaru_failure__"
FAILED_CALL = "__kitaru_call__"
"""On an exception that is made anew in each attempt: the key of the recorded outcome that it stands for."""

# What an AttributeError was raised about may be anything, and as large.
LEFT_OUT = frozenset({REBUILT_FROM, FAILED_CALL, "obj"})
LEFT_OUT_OF_GROUPS = frozenset({"message", "exceptions"})


class Form(NamedTuple):
    """How what an exception holds becomes JSON, and is made of it."""

    tag: Callable[[Any], Any]
    untag: Callable[[Any], Any]


class NotKept:
    """Stands for an attribute that no record holds: whatever is asked of it, it says so."""

    __slots__ = ("_name", "_why")

    def __init__(self, name: str, why: str) -> None:
        self._name = name
        self._why = why

    def __getattr__(self, asked: str) -> NoReturn:
        raise AttributeError(f"{self._name}.{asked}: {self._name} was not recorded with its exception: {self._why}")

    def __repr__(self) -> str:
        return f"<{self._name} was not recorded: {self._why}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NotKept) and (self._name, self._why) == (other._name, other._why)

    def __hash__(self) -> int:
        return hash(self._name)

    @property
    def why(self) -> str:
        return self._why


class Parts(NamedTuple):
    args: list[Any] | None
    """None: one of them cannot be recorded."""
    state: dict[str, Any]
    messages: dict[str, Any]
    """Attributes that are requests and responses."""
    left_out: dict[str, str]
    """Attributes that cannot be recorded, and why."""

    def described(self) -> dict[str, Any]:
        found: dict[str, Any] = {"state": self.state}
        if self.args is not None:
            found["args"] = self.args
        return found | {name: value for name, value in (("http", self.messages), ("lost", self.left_out)) if value}


within = threading.local()
"""`depth`: in how many exceptions, each in the arguments or attributes of another, the one is that is looked at."""


def depth_within() -> int:
    return getattr(within, "depth", 0)


def parts_of(error: BaseException, form: Form) -> Parts:
    depth = within.depth = depth_within() + 1
    try:
        return looked_at(error, form)
    finally:
        within.depth = depth - 1


def looked_at(error: BaseException, form: Form) -> Parts:
    # A group's arguments are its message and its members.
    args = [] if isinstance(error, BaseExceptionGroup) else list(error.args)
    parts = Parts(recorded(args, form), {}, {}, {})
    for name, value in attributes(error):
        if isinstance(value, NotKept):
            parts.left_out[name] = value.why
            continue
        try:
            message = http_messages.said(value)
        except Exception:  # whatever a library does in its properties
            message = None
        if message is not None:
            parts.messages[name] = message
            continue
        try:
            parts.state[name] = form.tag(value)
        except Exception:  # beside what does not fit: whatever a codec, or a property, of the user's raises
            small = small_object(value)
            if small is None:
                parts.left_out[name] = f"no JSON carries a {type_name(type(value))}"
            else:
                parts.state[name] = small
    return parts


def small_object(value: Any) -> dict[str, Any] | None:
    """An object that holds a few plain values, such as a place in a file; none that may be a secret."""
    kind: Any = type(value)
    if not is_named(kind) or not is_made_by_object(kind) or not keeps_itself_as(kind, object):
        return None
    state = state_of(value, kind)
    if any(type(item) not in PLAIN or http_messages.SECRET.search(name) for name, item in state.items()):
        return None
    return {"$": "object", "of": type_name(kind), "v": state} if state and "$" not in state else None


def recorded(values: list[object], form: Form) -> list[Any] | None:
    try:
        return [form.tag(value) for value in values]
    except Exception:  # as above
        return None


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


def bases_of(kind: type) -> list[str]:
    """Names of the classes that say most of what one is, from the nearest on."""
    return [type_name(base) for base in kind.__mro__[1:] if base is not object and is_named(base)]


def call_of(error: Any, form: Form) -> dict[str, Any] | None:
    """The call that makes an exception which is made by nothing else: pydantic's are no Python objects inside.

    None: it needs none, or says none.
    """
    kind: Any = type(error)
    if can_be_made(kind):
        return None
    try:
        call, args, *_ = cast(tuple[Any, ...], error.__reduce__())
    except Exception:  # whatever it says
        return None
    if call is not kind and getattr(call, "__self__", None) is not kind:
        return None
    said = [recorded_argument(arg, form) for arg in args]
    return {"by": "" if call is kind else call.__name__, "args": said}


def recorded_argument(value: Any, form: Form) -> Any:
    """The value; a text instead of what in it cannot be recorded, as the wrong input that a ValidationError names."""
    try:
        return form.tag(value)
    except Exception:  # as above
        pass
    if isinstance(value, list):
        return [recorded_argument(item, form) for item in value]
    if isinstance(value, dict) and all(type(key) is str for key in value):
        return {key: recorded_argument(item, form) for key, item in value.items()}
    return f"({type_name(type(value))}, not recorded)"


@functools.lru_cache(maxsize=1024)
def can_be_made(kind: Any) -> bool:
    try:
        made_without_init(kind)
    except TypeError:
        return issubclass(kind, BaseExceptionGroup)
    return True


def made_without_init(kind: Any) -> BaseException:
    """An instance, by the first `__new__` of Python's that may: RuntimeError's makes no TimeoutError."""
    base: Any
    for base in kind.__mro__[:-1]:
        new = vars(base).get("__new__")
        if new is not None and not isinstance(new, staticmethod | FunctionType):
            try:
                return cast(BaseException, base.__new__(kind))
            except TypeError:
                continue
    raise TypeError(f"{kind} cannot be made")


def made_group(kind: type, message: str, members: list[BaseException]) -> BaseException:
    return cast(BaseException, BaseExceptionGroup.__new__(kind, message, members))


def made_by(kind: Any, call: Mapping[str, Any], form: Form) -> BaseException:
    called: Any = getattr(kind, call["by"]) if call["by"] else kind
    return cast(BaseException, called(*form.untag(call["args"])))


def give(error: BaseException, described: Mapping[str, Any], form: Form) -> None:
    """Let it hold what the record says, whatever its class makes of setting an attribute."""
    for read, part in ((form.untag, "state"), (http_messages.made, "http")):
        for name, said in described.get(part, {}).items():
            try:
                value = read(said)
            except Exception as unread:  # its class is not here, or another now
                value = NotKept(name, f"it cannot be read here: {unread}")
            put(error, name, value)
    for name, why in described.get("lost", {}).items():
        put(error, name, NotKept(name, why))


def put(error: BaseException, name: str, value: object) -> None:
    member = next((vars(kind)[name] for kind in type(error).__mro__ if name in vars(kind)), None)
    if isinstance(member, MemberDescriptorType):
        member.__set__(error, value)
    else:
        error.__dict__[name] = value
