"""Reading a log: from any byte, whatever else stands in the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.executions.logs import LOOK_BACK_BYTES, LogFilter, lines_from, read_log
from kitaru_registry.journal.log_lines import append, members, pack, remark


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "executions" / "1" / "log"


def record(message: str, *, attempt: int = 1, **fields: str | int | None) -> str:
    return pack(message, at_us=1_700_000_000_000_000, attempt=attempt, fields=members(**fields))


def write(path: Path, data: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(data if isinstance(data, bytes) else data.encode())


def messages(path: Path, **options: Any) -> list[str]:
    return [entry.message for entry in read_log(path, **options)]


def test_a_log_that_nobody_wrote_is_empty(path: Path) -> None:
    assert read_log(path) == []


def test_records_are_json_text_sequences(path: Path) -> None:
    append(path, record("first", stream="stdout", checkpoint="draft"))

    begin, _, rest = path.read_bytes().partition(b"{")
    assert begin == b"\x1e"
    assert json.loads(b"{" + rest) == {
        "at": 1_700_000_000_000_000, "attempt": 1, "stream": "stdout", "checkpoint": "draft", "message": "first"
    }  # fmt: skip


def test_reading_goes_on_exactly_at_each_entrys_offset(path: Path) -> None:
    write(path, record("a") + "raw\n" + record("b\nof two lines") + "half" + record("c") + "\n" + "tail")
    entries = read_log(path)

    assert [entry.message for entry in entries] == ["a", "raw", "b\nof two lines", "half", "c", "", "tail"]
    for number, entry in enumerate(entries, start=1):
        assert read_log(path, offset=entry.offset) == entries[number:]
    assert entries[-1].offset == path.stat().st_size


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b"plain\r\n", ["plain"]),
        (b"caf\xe9\n", ["caf\ufffd"]),
        (b'\x1e{"message": "cut sh', []),
        (b'\x1e{"message": "cut sh\x1e{"message":"whole"}\n', ["whole"]),
        (b"\x1eno record\n", ["\x1eno record"]),
        (b'\x1e{"message": 1}\n', ['\x1e{"message": 1}']),
        (b'\x1e{"message": "m", "at": "noon"}\n', ['\x1e{"message": "m", "at": "noon"}']),
        (b'\x1e{"message": "m", "at": 1e99}\n', ['\x1e{"message": "m", "at": 1e99}']),
        (b'\x1e["message"]\n', ['\x1e["message"]']),
        (b"\x1e" + b"[" * 100_000 + b"\n", ["\x1e" + "[" * 100_000]),
        (b"\x00\n\n", ["\x00", ""]),
    ],
)
def test_anything_but_a_record_is_a_line(data: bytes, read: list[str], path: Path) -> None:
    write(path, data)

    assert messages(path) == read


def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(path: Path) -> None:
    write(path, record("a") + "hal")
    assert [line.fields["message"] for line in lines_from(path, 0, all_of_it=False)] == ["a"]

    write(path, "f\n")
    assert [line.fields["message"] for line in lines_from(path, 0, all_of_it=False)] == ["a", "half"]


def test_raw_lines_belong_to_the_attempt_that_the_last_record_names(path: Path) -> None:
    write(path, "of the first\n" + record("a") + "too\n")
    remark(path, "attempt 2 begins", attempt=2)
    offset = path.stat().st_size
    far = "x" * 99 + "\n"
    write(path, "of the second\n" + far * (2 * LOOK_BACK_BYTES // len(far)) + "last\n")

    assert [entry.attempt for entry in read_log(path)[:5]] == [1, 1, 1, 2, 2]
    assert {entry.attempt for entry in read_log(path, offset=offset)} == {2}
    assert read_log(path, offset=path.stat().st_size - len("last\n"))[0].attempt == 2


class TestFilters:
    @pytest.fixture(autouse=True)
    def log(self, path: Path) -> None:
        write(path, record("body", stream="stdout") + "subprocess\n")
        for key in ("draft", "draft#2", "map[0]/draft", "outer", "outer/try1/inner", "drafts"):
            write(path, record(key, stream="stdout", checkpoint=key))
        remark(path, "attempt 2 begins", attempt=2)
        write(path, record("body again", attempt=2, stream="stdout"))

    @pytest.mark.parametrize(
        ("wanted", "read"),
        [
            ({"checkpoint": "draft"}, ["draft", "draft#2", "map[0]/draft"]),
            ({"checkpoint": "draft#2"}, ["draft#2"]),
            ({"checkpoint": "map[0]/draft"}, ["map[0]/draft"]),
            ({"checkpoint": "outer"}, ["outer", "outer/try1/inner"]),
            ({"source": "runner"}, ["attempt 2 begins"]),
            ({"attempt": 2}, ["attempt 2 begins", "body again"]),
            ({"attempt": 2, "source": "flow"}, ["body again"]),
            ({"attempt": 2, "source": "step"}, ["body again"]),
        ],
    )
    def test_only_what_is_wanted_is_read(self, wanted: dict[str, Any], read: list[str], path: Path) -> None:
        assert messages(path, wanted=LogFilter(**wanted)) == read

    def test_a_limit_keeps_the_last_lines_and_from_an_offset_the_first(self, path: Path) -> None:
        everything = messages(path)

        assert messages(path, limit=2) == everything[-2:]
        assert messages(path, limit=2, offset=0) == everything[:2]
        assert messages(path, limit=99) == everything

    def test_the_last_lines_of_a_long_log_are_found_wherever_they_lie(self, path: Path) -> None:
        write(path, "".join(record(f"{number}" * 50) for number in range(3_000)))
        assert path.stat().st_size > 2 * LOOK_BACK_BYTES

        assert messages(path, limit=1) == ["2999" * 50]
        assert len(messages(path, limit=3_005)) == 3_005
        assert messages(path, limit=2, wanted=LogFilter(checkpoint="draft")) == ["draft#2", "map[0]/draft"]

    @pytest.mark.parametrize("wrong", [{"source": "steps"}, {"attempt": 0}])
    def test_a_filter_that_fits_nothing_is_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(KitaruUsageError):
            LogFilter(**wrong)

    @pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": -1}, {"offset": -1}])
    def test_a_place_that_is_none_is_refused(self, wrong: dict[str, Any], path: Path) -> None:
        with pytest.raises(KitaruUsageError):
            read_log(path, **wrong)


def test_a_name_with_quotes_and_a_message_of_any_characters_come_back(path: Path) -> None:
    message = '"\\ \ud800 \x1e \u2028 ☃\n'
    append(path, record(message, checkpoint='odd"key\\'))

    (entry,) = read_log(path)
    assert (entry.message, entry.checkpoint) == (message, 'odd"key\\')
