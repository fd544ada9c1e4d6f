"""An execution's log as its readers see it: entries, from any byte on."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from kitaru_registry.clock import as_datetime
from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.executions.reading import name_of
from kitaru_registry.journal.log_lines import BEGIN, RUNNER, unpack
from kitaru_registry.models import LogEntry

FLOW = "flow"
SOURCES = {FLOW: FLOW, RUNNER: RUNNER, "step": FLOW}
"""What may be asked for; `step` is the word of others for what the flow itself printed."""

LOOK_BACK_BYTES = 1 << 16
LIKELY_LINE_BYTES = 256


class Line(NamedTuple):
    """One line of the file, before it is made into an entry: most are only looked at and passed over."""

    fields: dict[str, Any]
    attempt: int
    end: int
    """Where the next one begins, in bytes."""


@dataclass(frozen=True)
class LogFilter:
    """Which lines are wanted."""

    checkpoint: str | None = None
    """Its key, or its name for all calls of it; with those that it called."""
    source: str | None = None
    attempt: int | None = None

    def __post_init__(self) -> None:
        if self.source is not None and self.source not in SOURCES:
            raise KitaruUsageError(f"there is no source {self.source}", hint=f"one of {', '.join(SOURCES)}")
        if self.attempt is not None and self.attempt < 1:
            raise KitaruUsageError(f"attempt {self.attempt} is none", hint="attempts are numbered from 1")

    def fits(self, line: Line) -> bool:
        if self.source is not None and source_of(line) != SOURCES[self.source]:
            return False
        if self.attempt is not None and line.attempt != self.attempt:
            return False
        return self.checkpoint is None or within(line.fields.get("checkpoint"), self.checkpoint)


def source_of(line: Line) -> str:
    return RUNNER if line.fields.get("source") == RUNNER else FLOW


def within(key: str | None, wanted: str) -> bool:
    """Whether the key is that of the wanted checkpoint, or of one below it."""
    if key is None:
        return False
    return key == wanted or key.startswith(f"{wanted}/") or name_of(key) == wanted


def read_log(
    path: Path, *, wanted: LogFilter | None = None, offset: int | None = None, limit: int | None = None
) -> list[LogEntry]:
    """Its entries in the order in which they were written; none where nothing was.

    Args:
        offset: in bytes; an entry's own `offset` is where the next one begins.
        limit: at most so many: the last ones, or the first ones from `offset` on.

    Raises:
        KitaruUsageError: a negative offset, a limit below 1.
    """
    wanted = wanted or LogFilter()
    if limit is not None and limit < 1:
        raise KitaruUsageError(f"a limit of {limit} shows nothing", hint="a limit of 1 or more")
    if offset is None and limit is not None:
        return [as_entry(line) for line in last_lines(path, wanted, limit)]
    return list(islice(each_entry(path, wanted, offset or 0), limit))


def each_entry(path: Path, wanted: LogFilter, offset: int) -> Iterator[LogEntry]:
    """Its entries from an offset on, one after another: a log may be larger than memory.

    Raises:
        KitaruUsageError: a negative offset.
    """
    return (as_entry(line) for line in lines_from(path, offset, all_of_it=True) if wanted.fits(line))


def last_lines(path: Path, wanted: LogFilter, limit: int) -> deque[Line]:
    """Read as far back as it takes: most logs are asked for their end, and some are long."""
    size = max(LOOK_BACK_BYTES, limit * LIKELY_LINE_BYTES)
    while True:
        begin = line_near(path, size)
        fitting = (line for line in lines_from(path, begin, all_of_it=True) if wanted.fits(line))
        found = deque(fitting, maxlen=limit)
        if len(found) == limit or begin == 0:
            return found
        size *= 8


def line_near(path: Path, size: int) -> int:
    """Where the first line begins that lies within so many bytes of the end; 0 where there is none."""
    try:
        with path.open("rb") as file:
            begin = max(0, file.seek(0, os.SEEK_END) - size)
            file.seek(begin)
            return begin + len(file.readline()) if begin else 0
    except FileNotFoundError:
        return 0


def lines_from(path: Path, offset: int, *, all_of_it: bool) -> Iterator[Line]:
    """The lines from a byte on.

    Args:
        all_of_it: with the last line, although it has no newline yet.

    Raises:
        KitaruUsageError: a negative offset.
    """
    if offset < 0:
        raise KitaruUsageError(f"a log has no offset {offset}", hint="an offset is 0, or that of an entry")
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        attempt = attempt_at(file, offset)
        for raw in file:
            if not raw.endswith(b"\n") and not all_of_it:
                return
            for line in lines_in(raw, offset, attempt):
                attempt = line.attempt
                yield line
            offset += len(raw)


def lines_in(raw: bytes, offset: int, attempt: int) -> Iterator[Line]:
    """The one line that the bytes are; more where a record was written into the middle of a line."""
    begin = 0
    for part in split_records(raw):
        begin += len(part)
        fields = unpack(part[1:]) if part.startswith(BEGIN) else None
        if fields is None:
            if part.startswith(BEGIN) and not part.endswith(b"\n"):
                continue  # A record that was cut short by the end of its process.
            fields = {"message": part.removesuffix(b"\n").removesuffix(b"\r").decode(errors="replace")}
        attempt = fields.get("attempt", attempt)
        yield Line(fields, attempt, offset + begin)


def split_records(raw: bytes) -> list[bytes]:
    if raw.startswith(BEGIN) and raw.find(BEGIN, 1) < 0:
        return [raw]
    head, *records = raw.split(BEGIN)
    return [*([head] if head else []), *(BEGIN + record for record in records)]


def attempt_at(file: io.BufferedReader, offset: int) -> int:
    """The attempt to which lines belong that do not say it: that of the last record before them, else the first.

    Leaves the file at the offset.
    """
    size = LOOK_BACK_BYTES
    while True:
        begin = max(0, offset - size)
        file.seek(begin)
        records = file.read(offset - begin).split(BEGIN)[1:]
        said = (unpack(record.partition(b"\n")[0]) for record in reversed(records))
        attempt = next((fields["attempt"] for fields in said if fields and "attempt" in fields), None)
        if attempt is not None or begin == 0:
            file.seek(offset)
            return attempt or 1
        size *= 8


def as_entry(line: Line) -> LogEntry:
    fields = line.fields
    key, file = fields.get("checkpoint"), fields.get("file")
    return LogEntry(
        message=fields["message"],
        level=fields.get("level"),
        timestamp=as_datetime(fields.get("at")),
        source=source_of(line),
        attempt=line.attempt,
        checkpoint=key,
        checkpoint_name=None if key is None else name_of(key),
        stream=fields.get("stream"),
        logger=fields.get("logger"),
        module=None if file is None else file.removesuffix(".py"),
        filename=file,
        lineno=fields.get("line"),
        offset=line.end,
    )
