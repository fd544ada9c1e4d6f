"""What a checkpoint changes in its arguments: lost in a replay, which does not execute it. So it is an error.

The digest of the arguments is taken again after the call. An object without a canonical form is not watched, but for
the `self` of a method, a data class of the flow's own and plain containers: there, whatever in them has one. That is
looked at where nothing else of the flow executes meanwhile, which could have changed it.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import functools
import pathlib
import sys
import uuid
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru_registry.errors import KitaruChangedArgumentError
from kitaru_runner.engine.core.specs import Work
from kitaru_runner.values.arguments import (
    argument_of,
    canonical_form,
    differences,
    digest_inputs,
    is_opaque,
    same_inputs,
)
from kitaru_runner.values.binary import is_numpy, is_pandas
from kitaru_runner.values.exception_parts import FAILED_CALL
from kitaru_runner.values.failures import rebuild
from kitaru_runner.values.fields import state_of
from kitaru_runner.values.named_types import find_type
from kitaru_runner.values.pydantic_models import is_model
from kitaru_runner.values.tagged import UNFIT

if TYPE_CHECKING:
    from kitaru_registry.journal.entries import Entry
    from kitaru_registry.journal.keys import Call
    from kitaru_runner.engine.core.recorded import Recorded

CHANGED = "!changed"
"""Ends the key of the remark that says what a call has changed."""

FIXED = frozenset({
    type(None), bool, int, float, complex, str, bytes, type, decimal.Decimal, uuid.UUID, pathlib.PosixPath,
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta,
})  # fmt: skip
"""Types whose values stay as they are."""

MOST_ITEMS = 1000
"""What is larger, in an object without a canonical form, is looked at by its length."""

DEEPEST = 4


class Watch(NamedTuple):
    """The arguments as they were before a call."""

    work: Work
    inputs: bytes
    inner: dict[str, str] | None
    """Of arguments that have no canonical form: what is in them, by its place; None: they are not watched."""

    def changed(self) -> list[str]:
        """Where the arguments are others now, as one would write it."""
        arguments = self.work.arguments()
        found: list[str] = []
        now = digest_inputs(arguments, sketched=False)
        if not same_inputs(self.inputs, now):
            # What a cached property has computed meanwhile is no change.
            now = digest_inputs(arguments, sketched=False, refine=without_computed)
        if not same_inputs(self.inputs, now):
            parts = differences(self.inputs, digest_inputs(arguments), arguments)
            found = [path for path, _ in parts] or list(arguments)
        if self.inner is not None:
            inner = inner_forms(arguments)
            found += [path for path, form in self.inner.items() if inner.get(path, form) != form]
            found += [path for path in inner if path not in self.inner and not is_kept(arguments, path)]
        return found


def watch(work: Work, inputs: bytes, *, scope: str, alone: bool = True) -> Watch | None:
    """What to look at after a call of these arguments; None where nothing of them can change.

    Args:
        scope: of the call. In the flow's own, or that of a checkpoint, nothing else is done meanwhile.
        alone: whether that is so; a loop may have other tasks.
    """
    for value in work.args:
        if type(value) not in FIXED and can_change(value):
            break
    else:
        if type(work.function) is not functools.partial and not any(map(can_change, work.kwargs.values())):
            return None
    if work.spec.isolated:
        return None
    alone = alone and "[" not in scope
    return Watch(work, inputs, inner_forms(work.arguments()) if alone and is_opaque(inputs) else None)


def can_change(value: object) -> bool:
    kind = type(value)
    if kind is tuple or kind is frozenset:
        return any(map(can_change, value))  # type: ignore[call-overload]  # kind is a tuple or a set
    return kind not in FIXED


def inner_forms(arguments: Mapping[str, object]) -> dict[str, str]:
    forms: dict[str, str] = {}
    for name, value in arguments.items():
        if not has_form(value):
            add_inner(forms, name, value, own=name == "self", depth=0)
    return forms


def add_inner(forms: dict[str, str], path: str, value: object, *, own: bool, depth: int) -> None:
    """Add the forms of what is in a value that has none itself."""
    kind = type(value)
    if kind in (list, dict, set):
        forms[path] = str(len(value))  # type: ignore[arg-type]  # kind is a container
    if depth == DEEPEST or len(forms) > MOST_ITEMS:
        return
    for step, item in items_of(value, own=own):
        size = weight(item, MOST_ITEMS)
        if is_numpy(item) or is_pandas(type(item)):
            continue
        if size > MOST_ITEMS:
            forms[path + step] = str(size)
        elif has_form(item):
            forms[path + step] = canonical_form(item)[0]
        else:
            add_inner(forms, path + step, item, own=False, depth=depth + 1)


def items_of(value: Any, *, own: bool) -> Iterator[tuple[str, object]]:
    kind = type(value)
    if kind in (list, tuple):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif kind is dict:
        yield from ((f"[{key!r}]", item) for key, item in value.items() if type(key) in (str, int))
    elif own or ((dataclasses.is_dataclass(kind) or is_model(kind)) and is_of_flow(kind)):
        yield from ((f".{name}", item) for name, item in state_of(value, kind).items())


def is_of_flow(kind: type) -> bool:
    """Whether it is none of a library's, whose objects may keep what they like."""
    if kind.__module__.partition(".")[0] in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return "site-packages" not in file and "dist-packages" not in file


def has_form(value: object) -> bool:
    try:
        canonical_form(value)
    except UNFIT:
        return False
    return True


def weight(value: Any, most: int) -> int:
    """How many values it is made of, however deep; counted up to `most`, and then by its own length."""
    total = 0
    left = [value]
    while left and total <= most:
        value = left.pop()
        kind = type(value)
        if kind in (dict, list, tuple, set, frozenset):
            total += len(value)
            left += islice(value.values() if kind is dict else value, most)
        else:
            total += 1
    return total


def without_computed(tagged: Any) -> Any:
    """A tagged form without the values of cached properties."""
    if type(tagged) is list:
        return [without_computed(item) for item in tagged]
    if type(tagged) is not dict:
        return tagged
    rest = {name: without_computed(item) for name, item in tagged.items()}
    said = tagged.get("type") or tagged.get("of")
    if "$" in tagged and type(said) is str and type(rest.get("v")) is dict:
        kind = find_type(said)
        is_computed = {name for name in rest["v"] if isinstance(getattr(kind, name, None), functools.cached_property)}
        rest["v"] = {name: item for name, item in rest["v"].items() if name not in is_computed}
    return rest


def is_kept(arguments: Mapping[str, object], path: str) -> bool:
    """Whether an attribute that was not there before is a `functools.cached_property`."""
    name, _, attribute = path.partition(".")
    found = getattr(type(arguments.get(name)), attribute.partition(".")[0].partition("[")[0], None)
    return isinstance(found, functools.cached_property)


def told_of(call: Call, paths: list[str]) -> str:
    names = ", ".join(dict.fromkeys(argument_of(path) for path in paths))
    where = f" ({', '.join(paths[:3])})" if any(path != argument_of(path) for path in paths) else ""
    return f"checkpoint {call.key} changed its argument {names}{where}, which a replay would not do"


def changed_argument(recorded: Recorded, entry: Entry) -> KitaruChangedArgumentError:
    """The error of a call that changed its arguments, the same in each attempt."""
    remark = recorded.remark(f"{entry.key}{CHANGED}")
    error = KitaruChangedArgumentError(
        str(remark.get("warning", f"checkpoint {entry.key} changed its arguments")),
        hint="return the new value, or change a copy; @checkpoint(ignore=...) names arguments that are not watched",
    )
    error.__dict__[FAILED_CALL] = entry.key
    error.__cause__ = rebuild(entry.error) if entry.error is not None else None
    return error
