"""Records that come side by side from one child share a commit, and are answered one by one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from transcripts import PATIENCE_SECONDS, Runner, sockets_of

from kitaru_registry.database.opening import open_database
from kitaru_registry.executions import reading
from kitaru_registry.executions.journal import JournalWriter
from kitaru_registry.home import Home
from kitaru_registry.journal.entries import Encoded, Entry
from kitaru_registry.journal.frames import FRAME, MAX_HEADER_BYTES, FrameReader, send, send_all
from kitaru_registry.journal.packing import pack_entries
from kitaru_registry.stores.layout import OciLayout
from kitaru_runner.child.socket_journal import SocketJournal
from kitaru_runner.host.place import Place

RECORDS = 20


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    home = Home(tmp_path / "home")
    database = open_database(home, synchronous="OFF")
    writer = JournalWriter(database)
    exec_id = "0190a2b4-0000-7000-8000-000000000001"
    line = {"protocol": 1, "exec_id": exec_id, "entrypoint": "flows.py:flow", "inputs": {}, "flow": "f"}
    yield Runner(Place(home, database, writer, OciLayout(home.layout)), line)
    writer.close()
    database.close()


def record(connection: socket.socket, number: int) -> None:
    packed, payload = pack_entries([Entry("c", f"step#{number}", 1, value=Encoded("json", b"%d" % number))])
    send(connection, {"t": "record", "id": number, "entries": packed}, payload)


def test_each_record_hears_the_number_of_its_own_entry(runner: Runner) -> None:
    (connection,) = sockets_of(runner.connect())
    reader = FrameReader(connection)
    send(connection, {"t": "hello", "protocol": 1, "pid": 1})
    for number in range(1, RECORDS + 1):
        record(connection, number)
    answers = [reader.read() for _ in range(2 + RECORDS)][2:]
    connection.close()
    runner.join()

    assert [answer[0] for answer in answers if answer] == [
        {"t": "ok", "seq": number, "id": number} for number in range(1, RECORDS + 1)
    ]


def test_answers_that_come_together_are_heard_in_their_order() -> None:
    """Whichever thread reads them: each of the others gets its own."""
    ours, theirs = socket.socketpair()
    journal = SocketJournal(theirs)
    heard: list[int] = []
    numbers: list[int] = []

    def ask(number: int) -> None:
        numbers.append(journal.record([Entry("c", f"step#{number}", 1)], heard.append))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(RECORDS)]
    with ours, theirs:
        for thread in threads:
            thread.start()
        reader = FrameReader(ours)
        asked = [frame[0]["id"] for frame in (reader.read() for _ in threads) if frame is not None]
        send_all(ours, [({"t": "ok", "seq": seq, "id": id_}, b"") for seq, id_ in enumerate(asked, start=1)])
        for thread in threads:
            thread.join(PATIENCE_SECONDS)

    assert heard == list(range(1, RECORDS + 1))
    assert sorted(numbers) == heard


def test_after_a_take_over_every_one_of_them_is_refused(runner: Runner) -> None:
    (connection,) = sockets_of(runner.connect())
    reader = FrameReader(connection)
    send(connection, {"t": "hello", "protocol": 1, "pid": 1})
    assert reader.read() is not None
    assert reader.read() is not None
    runner.do("take over", {})
    for number in range(1, RECORDS + 1):
        record(connection, number)
    answers = [reader.read() for _ in range(RECORDS)]
    connection.close()
    runner.join()

    assert [(answer[0]["t"], answer[0]["type"]) for answer in answers if answer] == [
        ("error", "KitaruFencedError")
    ] * RECORDS


BAD_TEXT = "r\udce9sum\udce9.pdf"


def test_what_an_older_child_sends_that_is_no_utf8_is_refused_to_it_alone(runner: Runner) -> None:
    """It checks nothing itself. Those that came together with it are recorded, and so is what comes later."""
    (connection,) = sockets_of(runner.connect())
    reader = FrameReader(connection)
    send(connection, {"t": "hello", "protocol": 1, "pid": 1})
    asked = {number: Entry("c", f"step#{number}", 1, value=Encoded("json", b"1")) for number in (1, 3)}
    asked[2] = Entry("c", BAD_TEXT, 1, value=Encoded("json", b"2"))
    frames = []
    for number, entry in sorted(asked.items()):
        packed, payload = pack_entries([entry])
        frames.append(({"t": "record", "id": number, "entries": packed}, payload))
    send_all(connection, frames)
    wait = {"key": "w", "name": "w", "question": BAD_TEXT, "schema": None, "metadata": None, "entered": 1}
    send(connection, {"t": "wait", "id": 4, "wait": wait})
    send(connection, {"t": "load", "id": 5, "exec_id": BAD_TEXT, "name": BAD_TEXT})
    send(connection, {"t": "load", "id": 6, "exec_id": runner.exec_id, "name": 5})
    record(connection, 7)
    heard = [reader.read() for _ in range(2 + 7)][2:]
    connection.close()
    runner.join()

    answers = {answer[0]["id"]: answer[0] for answer in heard if answer}
    assert [answers[number].get("seq") for number in (1, 3, 7)] == [1, 2, 3]
    assert [answers[number]["type"] for number in (2, 4, 5, 6)] == ["KitaruUsageError"] * 4


def test_a_frame_that_is_too_large_fails_the_execution_once(runner: Runner) -> None:
    (connection,) = sockets_of(runner.connect())
    send(connection, {"t": "hello", "protocol": 1, "pid": 1})
    connection.sendall(FRAME.pack(MAX_HEADER_BYTES + 1, 0))

    assert runner.join() == "failed"
    connection.close()
    error = reading.recorded_error(runner.place.database, runner.exec_id)
    assert error is not None
    assert "67,108,865 bytes" in error["message"]
