"""The lines of an execution's log, as they stand in its file.

One append-only file for each execution: `executions/ID/log`. What a flow prints through Python is there as records, a
JSON text sequence (RFC 7464): a byte 0x1e, a JSON object in one line of ASCII, a newline. Each is written by a single
append, so that no process or thread tears another's. Anything between records is bytes that went to the child's
descriptors 1 and 2 by another way: a subprocess, a C library, an older Kitaru. They are read as plain lines.

    at          microseconds since 1970
    attempt     which attempt wrote it
    source      "runner" for a remark of the runner's own; absent in what the flow printed
    checkpoint  key of the checkpoint in which it was printed; absent in the flow's body
    stream      "stdout" or "stderr"
    level, logger, file, line
                where it came through `logging`
    message     without the newline

Standard library only: the process of a deployed flow writes these.
"""

from __future__ import annotations

import json
import os
import time
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Any

from kitaru_registry.home import Home

BEGIN = b"\x1e"

RUNNER = "runner"

TYPES = {"at": int, "attempt": int, "line": int} | dict.fromkeys(
    ("source", "checkpoint", "stream", "level", "logger", "file", "message"), str
)
LAST_US = 1 << 53
"""In the year 2255. A flow can write what looks like a record; it cannot make its log unreadable."""


def log_file(home: Home, exec_id: str) -> Path:
    """Where its log is, once something was written to it."""
    return home.execution(exec_id) / "log"


def pack(message: str, *, at_us: int, attempt: int, fields: str = "") -> str:
    """One record. `fields` are the others, as members of a JSON object, each with a comma behind it."""
    return f'\x1e{{"at":{at_us},"attempt":{attempt},{fields}"message":{quoted(message)}}}\n'


def members(**fields: str | int | None) -> str:
    """What `pack` takes as fields; those that are None are left out."""
    return "".join(f'"{name}":{json.dumps(value)},' for name, value in fields.items() if value is not None)


def unpack(line: bytes) -> dict[str, Any] | None:
    """The members of a record, without its first byte; None where the bytes are none of ours."""
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or "message" not in record:
        return None
    for name, value in record.items():
        # A member that this release does not know is a later one's, and none of its business.
        if type(value) is not TYPES.get(name, type(value)):
            return None
    return record if 0 <= record.get("at", 0) < LAST_US else None


def append(path: Path, records: str) -> None:
    """Add records to a log that this process does not hold open.

    One that cannot be written (a full disk) costs the line, never the execution.
    """
    try:
        descriptor = open_to_append(path)
    except OSError:
        return
    try:
        os.write(descriptor, records.encode("ascii"))
    except OSError:
        pass
    finally:
        os.close(descriptor)


def open_to_append(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def remark(path: Path, message: str, *, attempt: int, level: str = "INFO") -> None:
    """Add a remark of the runner's own."""
    fields = members(source=RUNNER, level=level)
    append(path, pack(message, at_us=time.time_ns() // 1000, attempt=attempt, fields=fields))
