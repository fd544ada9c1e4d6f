"""What a process says that may die, or be out of time, in the middle of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kitaru_registry.errors import KitaruBackendError
from kitaru_registry.journal.frames import FRAME, MAX_HEADER_BYTES, send
from kitaru_registry.journal.timely import TimelyReader


@dataclass(frozen=True)
class Speaker:
    """A process that lives, its side of a stream, and who reads it."""

    process: subprocess.Popen[bytes]
    stream: socket.socket
    reader: TimelyReader

    def say(self, payload: bytes) -> threading.Thread:
        thread = threading.Thread(target=send, args=(self.stream, {"t": "ended"}, payload))
        thread.start()
        return thread


@pytest.fixture
def speaker() -> Iterator[Speaker]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    death = os.pidfd_open(process.pid)
    ours, theirs = socket.socketpair()
    with ours, theirs, process:
        yield Speaker(process, theirs, TimelyReader(ours, death))
        process.kill()
    os.close(death)


@pytest.mark.parametrize("size", [0, 1, 70_000, 20_000_000])
def test_a_frame_comes_whole(speaker: Speaker, size: int) -> None:
    payload = os.urandom(size)
    saying = speaker.say(payload)

    assert speaker.reader.read(None) == ({"t": "ended"}, payload)
    saying.join()


def test_each_part_of_a_large_frame_is_received_once_and_copied_never(
    speaker: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = []
    receive = TimelyReader._receive

    def counted(self: TimelyReader, into: memoryview, deadline: float | None) -> int:
        received.append(receive(self, into, deadline))
        return received[-1]

    monkeypatch.setattr(TimelyReader, "_receive", counted)
    saying = speaker.say(bytes(20_000_000))

    speaker.reader.read(None)

    saying.join()
    assert sum(received) == FRAME.size + len('{"t":"ended"}') + 20_000_000


def test_a_process_that_dies_in_a_frame_says_no_more_although_its_stream_stays_open(speaker: Speaker) -> None:
    speaker.stream.sendall(FRAME.pack(13, 100) + b'{"t":"ended"}' + b"half")
    speaker.process.kill()

    assert speaker.reader.read(None) is None


def test_what_a_process_said_before_it_died_is_heard(speaker: Speaker) -> None:
    send(speaker.stream, {"t": "begun"})
    speaker.process.kill()
    speaker.process.wait()

    assert speaker.reader.read(None) == ({"t": "begun"}, b"")
    assert speaker.reader.read(None) is None


def test_a_frame_that_does_not_come_whole_in_time_is_none(speaker: Speaker) -> None:
    speaker.stream.sendall(FRAME.pack(13, 100) + b'{"t":"ended"}' + b"half")

    assert speaker.reader.read(time.monotonic() + 0.01) is None


def test_a_header_that_is_too_large_is_refused(speaker: Speaker) -> None:
    speaker.stream.sendall(FRAME.pack(MAX_HEADER_BYTES + 1, 0))

    with pytest.raises(KitaruBackendError, match="67,108,865 bytes"):
        speaker.reader.read(None)
