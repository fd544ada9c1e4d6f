"""Which record is a call's, where threads may have swapped their places: that of the same name and the same arguments.

A thread whose creation the flow saw has a scope of its own, and its calls their places there. Several that take their
work from one queue have it by chance all the same: there a record goes to the call with its arguments, whichever
thread makes that now. Threads that nobody saw begin share one scope, in which nothing but name and arguments counts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple, NoReturn, Protocol

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.journal.entries import Entry, Kind
from kitaru_registry.journal.keys import Call, scope_of
from kitaru_runner.values.arguments import DIGEST_BYTES, is_opaque, same_inputs

MATCHED = frozenset({Kind.CALL, Kind.TRY, Kind.CHILD})
"""Kinds of what is matched: checkpoints, their failed tries, and child executions."""


class Diverge(Protocol):
    def __call__(self, call: Call, message: str, rule: str) -> NoReturn:
        """Fail the execution, because of that call."""


class Scope(Protocol):
    """Of a thread."""

    scope: str

    def call_without_place(self, name: str) -> Call:
        """The next call of that name in it."""


class Known(NamedTuple):
    """One recorded call."""

    key: str
    inputs: bytes
    outcome: Entry | None
    """None: there are failed tries alone."""


class Family:
    """The threads that one branch has created for one function; or those that call in it and that nobody saw begin."""

    def __init__(self, entries: Iterable[Entry], diverge: Diverge, prefix: str, *, unseen: bool) -> None:
        """
        Args:
            prefix: what the scopes of these threads begin with.
        """
        self._diverge = diverge
        self._lock = threading.Lock()
        self._unseen = unseen
        self._known: dict[str, list[Known]] = {}
        self._taken: dict[str, bytes] = {}
        self._fresh: dict[str, dict[bytes, Call]] = {}
        self._by_turns: set[str] = set()
        for entry in entries:
            if entry.kind in MATCHED and entry.inputs is not None and is_of(prefix, scope_of(entry.key)):
                self._add(entry)

    def _add(self, entry: Entry) -> None:
        name = entry.name or entry.key.rpartition("/")[2].partition("#")[0]
        known = self._known.setdefault(name, [])
        assert entry.inputs is not None
        known[:] = [other for other in known if other.key != entry.key]
        known.append(Known(entry.key, entry.inputs, entry if entry.kind != Kind.TRY else None))

    def takes_turns(self, scope: Scope) -> None:
        """A thread of this scope takes its work from where others may."""
        with self._lock:
            self._by_turns.add(scope.scope)

    def has_order(self, branch: Scope) -> bool:
        """Whether a call's place in this scope says which it is."""
        return not self._unseen and branch.scope not in self._by_turns

    def find(self, branch: Scope, call: Call, inputs: bytes) -> Call:
        """The call under the key of its record; of one that is not recorded, under a key that no record has.

        Raises:
            KitaruUsageError: nothing tells it from others: its arguments have no canonical form.
            KitaruDivergenceError: its record went to another call; or several, whose outcomes differ, are alike.
        """
        ordered = self.has_order(branch)
        if not ordered and is_opaque(inputs):
            raise without_form(call)
        with self._lock:
            key = self._key(call, inputs, ordered=ordered)
            if key is None:
                call = self._free(branch, call)
                self._fresh.setdefault(call.name, {}).setdefault(inputs[:DIGEST_BYTES], call)
            else:
                call = call._replace(key=key)
            self._taken[call.key] = inputs
        return call

    def _key(self, call: Call, inputs: bytes, *, ordered: bool) -> str | None:
        """Of the call's record; None: it has none."""
        known = self._known.get(call.name, ())
        own = next((one for one in known if one.key == call.key and one.key not in self._taken), None)
        alike = [one for one in known if same_inputs(one.inputs, inputs)]
        if not ordered:
            self._refuse_ambiguous(call, alike)
        elif own in alike:
            return call.key
        left = [one for one in alike if one.key not in self._taken]
        if left and (own is not None or not ordered):
            return left[0].key
        self._refuse_stolen(call, inputs, alike)
        if own is None or not ordered or own.inputs[:DIGEST_BYTES] in self._fresh.get(call.name, ()):
            return None
        return own.key

    def _refuse_ambiguous(self, call: Call, alike: Sequence[Known]) -> None:
        if len({outcome_of(one) for one in alike if one.outcome is not None}) > 1:
            self._diverge(
                call,
                f"{call.name} was called several times with these arguments, by threads without an order, and came to "
                f"different outcomes: each of these calls needs an id of its own, {call.name}(..., id=...)",
                "calls from threads without an order are told apart by their arguments",
            )

    def _refuse_stolen(self, call: Call, inputs: bytes, alike: Sequence[Known]) -> None:
        """Its record went to a call with other arguments, as it seems to be the one at its place."""
        stolen = [one.key for one in alike if not same_inputs(self._taken.get(one.key, inputs), inputs)]
        if stolen:
            self._diverge(
                call,
                f"{call.key} was recorded as {stolen[0]}, which another thread's call has taken: each of these calls "
                f"needs an id of its own, {call.name}(..., id=...), or to be started with {call.name}.submit",
                "threads must make the same calls in every attempt",
            )

    def _free(self, branch: Scope, call: Call) -> Call:
        while call.key in self._taken or any(one.key == call.key for one in self._known.get(call.name, ())):
            call = branch.call_without_place(call.name)
        return call

    def check_all_taken(self) -> None:
        """At the end of the flow.

        Raises:
            KitaruDivergenceError: a recorded outcome belongs to none of the calls, and another call was made instead.
        """
        for name, fresh in self._fresh.items():
            call = next((one for one in fresh.values() if self._unseen or one.scope in self._by_turns), None)
            left = [one.key for one in self._known.get(name, ()) if is_due(one) and one.key not in self._taken]
            if call is not None and left:
                self._diverge(
                    call,
                    f"the journal holds {left[0]}, which no thread has called, and {call.key} was called instead, with "
                    "other arguments",
                    "threads without an order must call with the same arguments in every attempt",
                )


class Families:
    """Those of one attempt."""

    def __init__(self, entries: Sequence[Entry], diverge: Diverge) -> None:
        self._entries = entries
        self._diverge = diverge
        self._lock = threading.Lock()
        self._by_prefix: dict[str, Family] = {}

    def of(self, prefix: str, *, unseen: bool = False) -> Family:
        with self._lock:
            family = self._by_prefix.get(prefix)
            if family is None:
                family = self._by_prefix[prefix] = Family(self._entries, self._diverge, prefix, unseen=unseen)
            return family

    def check_all_taken(self) -> None:
        for family in list(self._by_prefix.values()):
            family.check_all_taken()


def is_of(prefix: str, scope: str) -> bool:
    return scope.startswith(prefix) and "/" not in scope[len(prefix) : -1]


def is_due(known: Known) -> bool:
    return known.outcome is not None and not known.outcome.soft


def outcome_of(known: Known) -> object:
    """What tells it from another's."""
    entry = known.outcome
    assert entry is not None
    if entry.error is not None:
        return entry.error.get("type"), entry.error.get("message")
    # One that was not sent along is compared with no other.
    return (entry.value.codec, entry.value.data) if entry.value is not None else entry.key


def without_form(call: Call) -> KitaruUsageError:
    return KitaruUsageError(
        f"{call.name} was called by one of several threads that have no order, with an argument that nothing can tell "
        "from another's",
        hint=f"name the call: {call.name}(..., id=...); or give it a place: {call.name}.submit(...)",
    )
