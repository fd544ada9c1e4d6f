"""What a journal holds, as a replay asks for it: by key, by place, in order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kitaru_registry.journal.entries import (
    ARGUMENT_CHANGED,
    DIGEST_ONLY,
    GIVEN,
    REPLAY_NEVER,
    Answer,
    Entry,
    Kind,
    Opening,
)
from kitaru_registry.journal.giving_up import says_given_up
from kitaru_registry.journal.keys import Call, scope_of
from kitaru_runner.values.arguments import DIGEST_BYTES, same_inputs

OUTCOMES = frozenset({Kind.CALL, Kind.WAIT, Kind.ENDED})

NO_CALLS = frozenset({Kind.TRY, Kind.RETRY, Kind.ACCEPTED})
"""Failed tries, retries and accepted divergences: a call may have their key."""

NUMBER = re.compile(r"\[\d+\]")


class Recorded:
    def __init__(self, opening: Opening) -> None:
        self._all = opening.entries
        self._index: dict[str, int] = {}
        self._added: dict[str, Entry] = {}
        self.was_retried = False
        """Whether the flow may go another way than one that is recorded."""
        self._failed_tries: dict[str, tuple[int, int]] = {}
        self._accepted = accepted = dict(opening.accepted)
        self._places: dict[str, list[int | None]] = {}
        for index, entry in enumerate(self._all):
            if entry.kind not in NO_CALLS:
                self._index[entry.key] = index
            elif entry.kind == Kind.RETRY:
                self.was_retried = True
            elif entry.kind == Kind.TRY and not entry.soft:
                self.try_failed(entry.key, entry.tries or 1, entry.ended_us)
            if entry.place is not None and entry.place >= 0 and not entry.soft and not passed_by(entry, accepted):
                put_at(self._places.setdefault(scope_of(entry.key), []), entry.place, index)
        self._by_inputs: dict[bytes, list[int]] | None = None
        self.mistaken: list[Entry] = []
        """Outcomes that went to calls with other arguments."""
        self.has_places = bool(self._places)
        """Whether any call has its place in the journal; not in an execution's first attempt."""

    def _get(self, key: str) -> Entry | None:
        added = self._added.get(key)
        if added is not None or key not in self._index:
            return added
        return self._all[self._index[key]]

    def is_accepted(self, call: Call) -> bool:
        """Whether a divergence at this place of its scope, or before it, was accepted."""
        first = self._accepted.get(call.scope)
        return first is not None and call.place >= first

    def expected_at(self, call: Call) -> Entry | None:
        """The entry at the call's place, whatever its key."""
        places = self._places.get(call.scope, ())
        index = places[call.place] if 0 <= call.place < len(places) else None
        return None if index is None else self._all[index]

    def find(self, call: Call, inputs: bytes | None = None) -> Entry | None:
        """The outcome of that very call.

        One behind a superseded failure counts if the arguments are the same too: the flow may have come there by
        another way.
        """
        entry = self._get(call.key)
        if entry is None or not entry.soft or entry.flags & (REPLAY_NEVER | GIVEN):
            return entry
        same = entry.inputs == inputs or (entry.inputs and inputs and same_inputs(entry.inputs, inputs))
        return entry if same else None

    def add(self, entry: Entry) -> None:
        self._added[entry.key] = entry

    def has(self, key: str) -> bool:
        return key in self._index or key in self._added

    def of_arguments(self, call: Call, inputs: bytes) -> Entry | None:
        """Another recorded call of the same name and scope that was made with these arguments."""
        if self._by_inputs is None:
            self._by_inputs = {}
            for index in self._index.values():
                entry = self._all[index]
                if entry.inputs:
                    self._by_inputs.setdefault(entry.inputs[:DIGEST_BYTES], []).append(index)
        for index in self._by_inputs.get(inputs[:DIGEST_BYTES], ()):
            entry = self._all[index]
            if entry.key != call.key and self.is_such(entry, call):
                return entry
        return None

    @staticmethod
    def is_such(entry: Entry, call: Call) -> bool:
        """Whether it is of a call of the same name, in the same scope or one beside it: another element of a `map`."""
        if entry.kind != Kind.CALL or entry.soft or called(entry) != call.name:
            return False
        return NUMBER.sub("[]", scope_of(entry.key)) == NUMBER.sub("[]", call.scope)

    def remark(self, key: str) -> Mapping[str, Any]:
        """What was said beside the calls under that key."""
        entry = self._get(key)
        return (entry.metadata if entry is not None else None) or {}

    def failed_tries(self, key: str) -> tuple[int, int]:
        """How many there were, and when the last ended, in microseconds."""
        return self._failed_tries.get(key, (0, 0))

    def try_failed(self, key: str, number: int, ended_us: int) -> None:
        self._failed_tries[key] = max((number, ended_us), self.failed_tries(key))

    def order(self, scope: str = "") -> list[int]:
        """The numbers of the outcomes that a replay hands out in a scope: not those within a checkpoint that is
        recorded."""
        return [
            entry.seq
            for key, entry in self._items()
            if key.startswith(scope) and entry.kind in OUTCOMES and not entry.soft and not self._is_inner(key)
        ]

    def _is_inner(self, key: str) -> bool:
        return "/try" in key and self.has(key.partition("/try")[0])

    def _items(self) -> Iterator[tuple[str, Entry]]:
        yield from ((key, self._all[index]) for key, index in self._index.items() if key not in self._added)
        yield from self._added.items()


def put_at(places: list[int | None], place: int, index: int) -> None:
    places.extend([None] * (place + 1 - len(places)))
    places[place] = index


def passed_by(entry: Entry, accepted: dict[str, Any]) -> bool:
    """Whether a divergence before this place of its scope was accepted."""
    first: int | None = accepted.get(scope_of(entry.key))
    return first is not None and entry.place is not None and entry.place >= first


def called(entry: Entry) -> str:
    """The checkpoint's name."""
    return entry.name or entry.key.rpartition("/")[2].partition("#")[0]


def last_seq(entries: Iterable[Entry]) -> int:
    return max((entry.seq for entry in entries), default=0)


def is_unkept(entry: Entry) -> bool:
    """Whether its value is to be made again."""
    return entry.flags & (DIGEST_ONLY | ARGUMENT_CHANGED) == DIGEST_ONLY and entry.error is None


def failed_key(entry: Entry) -> str | None:
    """The key of a failure's call."""
    return entry.key if entry.error is not None or entry.flags & ARGUMENT_CHANGED else None


def answer_of(entry: Entry) -> Answer:
    """What a recorded wait was given."""
    data = entry.value.data if entry.value is not None else json.dumps(None).encode()
    return Answer(data, str((entry.metadata or {}).get("outcome", "answered")))


def is_cancellation(entry: Entry) -> bool:
    """Whether it says that its caller gave up waiting."""
    return says_given_up(entry.error)
