"""The entries of a journal as a child keeps them: each is a few bytes until it is asked for.

An `Entry` of its own takes three times as much, and of a very long journal each is asked for once or twice.
Standard library only.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import overload

from kitaru_registry.journal.entries import Encoded, Entry

RARE = tuple(name for name in Entry._fields[Entry._fields.index("name") :] if name != "seq")
"""What most entries do not have."""

NOTHING = tuple(Entry._field_defaults[name] for name in RARE)
rare_of = attrgetter(*RARE)


class KeptEntries(Sequence[Entry]):
    """Grows at its end."""

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._kept: list[bytes | Entry] = []

    def extend(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._keys.append(entry.key)
            self._kept.append(packed(entry))

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        if isinstance(index, slice):
            return [self._entry(each) for each in range(*index.indices(len(self)))]
        return self._entry(index)

    def __iter__(self) -> Iterator[Entry]:
        return map(self._entry, range(len(self._kept)))

    def _entry(self, index: int) -> Entry:
        kept = self._kept[index]
        if isinstance(kept, Entry):
            return kept
        kind, ended_us, codec, data, place, inputs, started_us, seq = marshal.loads(kept)
        value = None if codec is None else Encoded(codec, data)
        return Entry(kind, self._keys[index], ended_us, value, place, inputs, started_us, None, seq)


def packed(entry: Entry) -> bytes | Entry:
    """The entry as it is kept: as itself, if it has more than most have."""
    if rare_of(entry) != NOTHING:
        return entry
    codec, data = entry.value if entry.value is not None else (None, None)
    common = (entry.kind, entry.ended_us, codec, data, entry.place, entry.inputs, entry.started_us, entry.seq)
    # Of version 2, which keeps no record of what stands in it twice.
    return marshal.dumps(common, 2)
