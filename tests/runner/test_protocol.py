"""Frames come out of a stream as they went in, however the stream is cut."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru_registry.errors import KitaruBackendError, KitaruUsageError
from kitaru_registry.journal.entries import Encoded, Entry, Saved
from kitaru_registry.journal.frames import FRAME, MAX_HEADER_BYTES, SPIN_SECONDS, FrameReader, send, send_all
from kitaru_registry.journal.packing import in_pieces, pack_entries, unpack_entries

text = st.text(st.characters(codec=None, categories=None), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
encoded = st.builds(Encoded, st.sampled_from(["json", "str", "bytes", "tagged"]), st.binary(max_size=300))
numbers = st.integers(0, 2**53)
entries = st.builds(
    Entry,
    kind=st.sampled_from("ctwsld"),
    key=text,
    ended_us=numbers,
    name=st.none() | text,
    seq=numbers,
    value=st.none() | encoded,
    error=st.none() | st.dictionaries(text, json_values, min_size=1, max_size=3),
    tries=st.none() | numbers,
    place=st.none() | numbers,
    type=st.none() | text,
    inputs=st.none() | st.binary(min_size=16, max_size=16),
    started_us=st.none() | numbers,
    saved=st.lists(
        st.builds(Saved, text, text, st.lists(text, max_size=2).map(tuple), encoded), max_size=3
    ).map(tuple),
    metadata=st.none() | st.dictionaries(text, json_values, min_size=1, max_size=3),
    size=st.none() | numbers,
    cache_key=st.none() | st.binary(min_size=16, max_size=16),
    parents=st.lists(text, max_size=2).map(tuple),
    flags=st.integers(0, 7),
    soft=st.booleans(),
)  # fmt: skip


Frames = list[tuple[dict[str, Any], bytes]]


class Pieces:
    """A socket whose stream arrives in pieces of a few bytes."""

    def __init__(self, stream: bytes, sizes: Iterator[int]) -> None:
        self._stream = stream
        self._sizes = sizes
        self._looks = 0

    def recv(self, most: int, flags: int = 0) -> bytes:
        self._looks += 1
        if flags & socket.MSG_DONTWAIT and self._looks % 3:
            raise BlockingIOError
        size = min(most, next(self._sizes, most))
        piece, self._stream = self._stream[:size], self._stream[size:]
        return piece


@given(st.lists(entries, max_size=8), st.sampled_from([1, 400, 1 << 20]))
def test_entries_in_pieces_are_the_same_entries(given_entries: list[Entry], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kitaru_registry.journal.packing.PIECE_BYTES", most)
        pieces = list(in_pieces(given_entries))

    found = [entry for piece in pieces for entry in unpack_entries(piece.entries, piece.payload)]
    assert found == given_entries
    assert [piece.is_last for piece in pieces] == [False] * (len(pieces) - 1) + [True]


class Collected:
    def __init__(self) -> None:
        self.stream = b""

    def sendall(self, data: bytes) -> None:
        self.stream += data


def stream_of(frames: Frames) -> bytes:
    collected = Collected()
    for header, payload in frames:
        send(collected, header, payload)  # type: ignore[arg-type]  # what send needs of a socket
    return collected.stream


def reader_of(stream: bytes, *sizes: int) -> FrameReader:
    return FrameReader(Pieces(stream, iter(sizes)))  # type: ignore[arg-type]  # what a reader needs of a socket


@settings(max_examples=150, deadline=None)
@given(st.lists(entries, max_size=5))
def test_entries_come_out_of_their_packing_as_they_went_in(given_entries: list[Entry]) -> None:
    packed, payload = pack_entries(given_entries)
    read = reader_of(stream_of([({"t": "record", "entries": packed}, payload)])).read()

    assert read is not None
    assert list(unpack_entries(read[0]["entries"], read[1])) == given_entries


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.dictionaries(text, json_values, max_size=3), st.binary(max_size=200)), max_size=5),
    st.lists(st.integers(1, 50)),
)
def test_frames_come_in_order_however_they_are_cut(
    frames: list[tuple[dict[str, Any], bytes]], sizes: list[int]
) -> None:
    reader = reader_of(stream_of(frames), *sizes)

    assert [reader.read() for _ in frames] == frames
    assert reader.read() is None


def test_a_reader_knows_whether_more_came_with_the_last_frame() -> None:
    frames: Frames = [({"t": "ok", "id": 1}, b""), ({"t": "ok", "id": 2}, b"payload")]
    stream = stream_of(frames)
    reader, cut = reader_of(stream), reader_of(stream, len(stream) - 1)

    assert [reader.holds_frame(), reader.read(), reader.holds_frame()] == [False, frames[0], True]
    assert [reader.read(), reader.holds_frame()] == [frames[1], False]
    assert [cut.read(), cut.holds_frame(), cut.read()] == [frames[0], False, frames[1]]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_stream_that_ends_within_a_frame_has_ended(data: st.DataObject) -> None:
    stream = stream_of([({"t": "park", "id": 1}, b"payload")])
    cut = data.draw(st.integers(0, len(stream) - 1))

    assert reader_of(stream[:cut]).read() is None


def test_a_frame_is_two_lengths_a_header_and_a_payload() -> None:
    """The bytes that every released number keeps."""
    stream = stream_of([({"t": "ok", "id": 7}, b"\x00\x01")])

    assert stream == struct.pack(">II", 17, 2) + b'{"t":"ok","id":7}' + b"\x00\x01"


def test_a_header_that_is_too_large_is_refused_by_its_reader() -> None:
    """It is not the stream's end: who reads says why nothing that follows can be read."""
    with pytest.raises(KitaruBackendError, match="67,108,865 bytes"):
        reader_of(FRAME.pack(MAX_HEADER_BYTES + 1, 0) + b"x" * 100).read()


def test_a_frame_that_is_too_large_is_refused_before_anything_is_sent() -> None:
    collected = Collected()
    too_large = {"t": "wait", "question": "\u00e9" * (MAX_HEADER_BYTES // 6)}

    with pytest.raises(KitaruUsageError, match="is the most"):
        send_all(collected, [({"t": "park"}, b""), (too_large, b"")])  # type: ignore[arg-type]  # what it needs

    assert not collected.stream


@pytest.mark.parametrize("size", [0, 1, (1 << 16) - 1, 1 << 16, 3 << 20])
def test_payloads_of_every_size_pass_a_real_socket(size: int) -> None:
    ours, theirs = socket.socketpair()
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with ours, theirs:
        sending = threading.Thread(target=send, args=(ours, {"t": "record"}, payload))
        sending.start()

        assert FrameReader(theirs).read() == ({"t": "record"}, payload)
        sending.join()


def test_frames_are_read_whole_however_soon_or_late_they_come() -> None:
    """A reader that was answered at once looks again at once, for a moment; what comes after that is read too."""
    ours, theirs = socket.socketpair()
    reader = FrameReader(theirs)

    def answer() -> None:
        for number in range(6):
            # Each with its end apart, before and after the reader has gone to sleep.
            frame = stream_of([({"t": "ok", "id": number}, b"x" * number)])
            ours.sendall(frame[:5])
            threading.Event().wait(SPIN_SECONDS * (number % 3))
            ours.sendall(frame[5:])

    thread = threading.Thread(target=answer)
    thread.start()
    with ours, theirs:
        assert [reader.read() for _ in range(6)] == [({"t": "ok", "id": n}, b"x" * n) for n in range(6)]
        thread.join()
        ours.close()
        assert reader.read() is None
