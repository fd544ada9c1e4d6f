"""What a child executes is seen by its runner in shared memory, and a crash is told by it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest
from attempts import PATIENCE_SECONDS

from kitaru_registry.journal.entries import Entry
from kitaru_registry.journal.frames import FrameReader, send
from kitaru_runner.child.socket_journal import SocketJournal
from kitaru_runner.engine.core.in_flight import SLOTS, InFlightPage, open_page

Sides = tuple[InFlightPage, InFlightPage]


@pytest.fixture
def sides() -> Iterator[Sides]:
    descriptor = open_page()
    child, runner = InFlightPage(descriptor), InFlightPage(descriptor)
    os.close(descriptor)
    yield child, runner
    child.close()
    runner.close()


def test_the_runner_sees_what_is_under_way_oldest_first(sides: Sides) -> None:
    child, runner = sides

    child.begin("write", "write", 1, 20)
    child.begin("map[0]/research", "research", 3, 10)

    assert runner.read() == [
        {"key": "map[0]/research", "name": "research", "tries": 3, "started_us": 10},
        {"key": "write", "name": "write", "tries": 1, "started_us": 20},
    ]


def test_what_has_ended_is_gone_and_its_slot_is_used_again(sides: Sides) -> None:
    child, runner = sides

    for number in range(3 * SLOTS):
        child.begin(f"step#{number}", "step", 1, number)
        child.end(f"step#{number}", 1)
    child.begin("last", "last", 1, 1)

    assert [call["key"] for call in runner.read()] == ["last"]


def test_what_is_recorded_is_over_for_whoever_hears_of_it_first(sides: Sides) -> None:
    """It may go on by that, and end the process."""
    child, runner = sides
    ours, theirs = socket.socketpair()
    journal = SocketJournal(theirs, page=child)
    under_way: list[object] = []
    journal.started("write", "write", 1, 20)

    def ask() -> None:
        journal.record([Entry("c", "write", 30)], lambda seq: under_way.append(runner.read()))

    asking = threading.Thread(target=ask)
    with ours, theirs:
        asking.start()
        asked = FrameReader(ours).read()
        assert asked is not None
        assert len(runner.read()) == 1
        send(ours, {"t": "ok", "seq": 1, "id": asked[0]["id"]})
        asking.join(PATIENCE_SECONDS)

    assert under_way == [[]]


def test_more_than_there_are_slots_and_longer_than_one_are_not_shown(sides: Sides) -> None:
    child, runner = sides
    child.begin("k" * 300, "k", 1, 0)

    for number in range(SLOTS + 5):
        child.begin(f"map[{number}]/step", "step", 1, number)

    assert len(runner.read()) == SLOTS
    for number in range(SLOTS + 5):
        child.end(f"map[{number}]/step", 1)
    assert runner.read() == []


def test_a_slot_that_is_being_written_is_passed_over(sides: Sides) -> None:
    child, runner = sides
    child.begin("step", "step", 1, 1)
    child._memory[2:5] = b"\xff\xff\xff"

    assert runner.read() == []


def test_nothing_is_under_way_once_the_page_is_closed(sides: Sides) -> None:
    """A heartbeat may come while another thread closes what an ended child has left."""
    child, runner = sides
    child.begin("step", "step", 1, 1)

    runner.close()

    assert runner.read() == []
