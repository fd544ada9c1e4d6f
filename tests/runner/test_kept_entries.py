"""A child keeps a journal's entries as a few bytes each, and gives them back as they came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kitaru_registry.journal.entries import Encoded, Entry
from kitaru_registry.journal.kept_entries import KeptEntries
from kitaru_runner.engine.core.loops import Numbers

ENTRIES = st.builds(
    Entry,
    kind=st.sampled_from("ctwsnldxera"),
    key=st.text(min_size=1),
    ended_us=st.integers(0, 2**60),
    value=st.none() | st.builds(Encoded, st.sampled_from(["json", "str"]), st.binary()),
    place=st.none() | st.integers(-1, 10**6),
    inputs=st.none() | st.binary(),
    started_us=st.none() | st.integers(0, 2**60),
    name=st.none() | st.text(),
    seq=st.integers(0, 2**40),
    error=st.none() | st.dictionaries(st.text(), st.text()),
    tries=st.none() | st.integers(1, 9),
    metadata=st.none() | st.dictionaries(st.text(), st.integers()),
    size=st.none() | st.integers(0, 2**40),
    type=st.none() | st.text(),
    saved=st.just(()),
    cache_key=st.none() | st.binary(),
    parents=st.lists(st.text()).map(tuple),
    flags=st.integers(0, 15),
    soft=st.booleans(),
)
PLAIN = st.tuples(st.text(), st.integers(0, 2**60), st.integers(1, 2**40)).map(
    lambda drawn: Entry("c", drawn[0], drawn[1], seq=drawn[2])
)


@given(st.lists(ENTRIES | PLAIN))
def test_entries_come_back_as_they_were_in_their_order(entries: list[Entry]) -> None:
    kept = KeptEntries()
    for entry in entries:
        kept.extend([entry])

    assert list(kept) == entries
    assert [kept[index] for index in range(len(kept))] == entries
    assert kept[1:3] == entries[1:3]
    assert all(type(entry) is Entry for entry in kept)


@given(st.sets(st.integers(0, 5_000)))
def test_numbers_hold_what_was_added_and_nothing_else(added: set[int]) -> None:
    numbers = Numbers()
    for number in added:
        numbers.add(number)

    assert {number for number in range(5_010) if number in numbers} == added
