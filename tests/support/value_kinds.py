"""Classes of every kind that a checkpoint may return, and what can be told of a value beside that it is equal.

Some have the shape of what agent frameworks pass about: messages whose dataclasses hold only what was set, models with
aliases, private attributes and fields beyond the declared ones.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum, IntFlag, StrEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import attrs
import numpy
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PrivateAttr,
    RootModel,
    SecretStr,
    computed_field,
    field_validator,
)  # fmt: skip
from pydantic.dataclasses import dataclass as validated_dataclass

T = TypeVar("T")


class Patch(BaseModel):
    name: str | None = None
    age: int | None = None


class Aliased(BaseModel):
    user_name: str = Field(alias="userName")
    given: str = Field(default="", validation_alias=AliasChoices("first", "given_name"), serialization_alias="Given")


class Beyond(BaseModel):
    model_config = ConfigDict(extra="allow")
    content: str | None = None
    refusal: str | None = None


class Private(BaseModel):
    shown: int = 0
    _seen: list[Any] = PrivateAttr(default_factory=list)
    _unset: int = PrivateAttr()

    @computed_field  # type: ignore[prop-decorator]  # as pydantic writes it
    @property
    def double(self) -> int:
        return self.shown * 2


class WithSlots(BaseModel):
    __slots__ = ("beside",)
    number: int = 0


class Changing(BaseModel):
    """Its validator would change what it has made of a value once more."""

    text: str

    @field_validator("text")
    @classmethod
    def marked(cls, text: str) -> str:
        return f"{text}!"


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    number: int
    word: str = ""


class Listed(RootModel[list[Patch]]):
    pass


class Page(BaseModel, Generic[T]):
    items: list[T]
    next: int | None = None


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    patch: Patch | None = None


class Pet(BaseModel):
    one: Annotated[Cat | Dog, Field(discriminator="kind")]
    url: HttpUrl | None = None
    password: SecretStr | None = None
    anything: Any = None


class Cached(BaseModel):
    number: int

    @functools.cached_property
    def square(self) -> int:
        return self.number**2

    @functools.cached_property
    def compute(self) -> Callable[[], int]:
        return lambda: self.number


@dataclasses.dataclass(repr=False)
class Usage:
    """Its instances hold what was given alone, and may hold more."""

    tokens: int = 0
    details: dict[str, int] = dataclasses.field(default_factory=dict)
    cached: int = 0

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)
        self.__dict__.setdefault("details", {})

    def __repr__(self) -> str:
        return f"Usage({sorted(self.__dict__.items())})"


@dataclasses.dataclass(frozen=True, order=True)
class Version:
    major: int
    minor: int = 0


@dataclasses.dataclass
class Box(Generic[T]):
    value: T
    patch: Patch = dataclasses.field(default_factory=Patch)


@dataclasses.dataclass(slots=True)
class Slotted:
    x: Any


class Deeper(Slotted):
    __slots__ = ("__hidden", "y")

    def hide(self, value: Any) -> Deeper:
        self.__hidden = value
        return self

    def hidden(self) -> Any:
        return self.__hidden


@dataclasses.dataclass(slots=True)
class Unset:
    x: int
    later: Any = dataclasses.field(init=False)


@dataclasses.dataclass
class Deprecated:
    """As a decorator that warns leaves it."""

    word: str

    def __new__(cls, word: str) -> Deprecated:
        return super().__new__(cls)


@validated_dataclass
class Validated:
    number: int
    patch: Patch


@attrs.define
class Defined:
    x: int
    y: Any = None


@attrs.frozen(cache_hash=True)
class Fixed:
    word: str


class Send:
    """As graph libraries write theirs: slots, and equal by what it holds."""

    __slots__ = ("arg", "node")

    def __init__(self, node: str, arg: Any) -> None:
        self.node = node
        self.arg = arg

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Send) and (self.node, self.arg) == (other.node, other.arg)

    def __hash__(self) -> int:
        return hash(self.node)

    def __repr__(self) -> str:
        return f"Send({self.node!r}, {self.arg!r})"


class Same:
    """Equal to itself alone."""

    def __init__(self, friend: Same | None = None) -> None:
        self.friend = friend


class Point(NamedTuple):
    x: Any
    y: Any = 0


class Row(dict[str, Any]):
    pass


class Many(list[Any]):
    name = ""


class Word(str):
    __slots__ = ()


class Text(str):
    """As frameworks write a text that may be called too."""

    def __new__(cls, value: str) -> Text:
        return super().__new__(cls, value)

    def __call__(self) -> str:
        return str(self)


class Number(int):
    pass


class Group(set[Any]):
    pass


class Status(StrEnum):
    OPEN = "open"

    @classmethod
    def _missing_(cls, value: object) -> Status:
        """Open: what a later release of a service says is a member too."""
        made = str.__new__(cls, value)
        made._name_ = str(value).upper()
        made._value_ = str(value)
        return cls._value2member_map_.setdefault(value, made)  # type: ignore[return-value]  # a member


class Kind(Enum):
    ONE = (1, "one")
    TWO = (2, "two")
    UNO = (1, "one")  # noqa: PIE796  # another name of ONE


class Mode(IntFlag):
    READ = 1
    WRITE = 2


def attempt(call: Callable[[Any], object], value: Any) -> object:
    try:
        return call(value)
    except (AttributeError, TypeError) as error:
        return repr(error)


def is_nan(value: Any) -> bool:
    """Its hash is its identity's."""
    return str(value).lower().endswith("nan") if isinstance(value, float | complex | Decimal | numpy.generic) else False


def dump(value: BaseModel, **how: bool) -> Any:
    return value.model_dump(warnings=False, **how)  # type: ignore[arg-type]  # of the flags alone


def seen(value: Any, depth: int = 0) -> Any:
    """What code can tell of a value, down to its parts: equal for two values that no code can tell apart."""
    kind = type(value)
    if depth > 40:
        return "deep"
    inner: Callable[[Any], Any] = lambda item: seen(item, depth + 1)  # noqa: E731
    found: list[Any] = [kind]
    if isinstance(value, BaseModel):
        found += [value.model_fields_set, inner(dump(value)), inner(dump(value, exclude_unset=True))]
        found += [inner(dump(value, by_alias=True)), inner(value.__pydantic_extra__), list(vars(value))]
        found += [inner(value.__pydantic_private__)]
    if isinstance(value, Mapping):
        found += [[(inner(key), inner(item)) for key, item in value.items()]]
    elif isinstance(value, set | frozenset):
        found += [sorted(repr(inner(item)) for item in value)]
    elif isinstance(value, list | tuple) or hasattr(value, "maxlen"):
        found += [[inner(item) for item in value]]
    elif kind.__repr__ is not object.__repr__:
        found += [attempt(repr, value)]
    if kind.__hash__ is not None and not isinstance(value, type) and kind.__hash__ is not object.__hash__:
        found += ["no number" if is_nan(value) else attempt(hash, value)]
    state = {name: item for name, item in getattr(value, "__dict__", {}).items() if not callable(item)}
    if not isinstance(value, type):
        found += [{name: inner(item) for name, item in state.items()}]
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            mangled = f"_{base.__name__}{name}" if name.startswith("__") and not name.endswith("__") else name
            if mangled not in ("__dict__", "__weakref__") and not mangled.startswith("__pydantic"):
                found += [(mangled, inner(getattr(value, mangled, "unset")))]
    for said in ("maxlen", "default_factory", "tzinfo", "fold", "dtype", "flags", "_name_", "_value_"):
        if hasattr(value, said) and not isinstance(value, type):
            found += [(said, repr(getattr(value, said)))]
    return found
