"""`kitaru executions logs`: what an execution printed, and what it prints now."""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from kitaru_cli.commands import ExecutionArgument, Output, open_client
from kitaru_cli.execution_text import exit_code, outcome_notes, wait_parts
from kitaru_cli.output import Answer, Format, as_json, items, nothing, painted, streamed
from kitaru_cli.tables import Part, dim, show
from kitaru_cli.words import short_id, visible

if TYPE_CHECKING:
    from kitaru import KitaruClient
    from kitaru_registry.models import Execution, ExecutionId, LogEntry

COMMAND = "executions.logs"
INTERRUPTED = 130
INTERVAL_SECONDS = 0.25
RUNNER = "runner"

ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")
"""What a program says to a terminal: colours, movements of the cursor, titles and links (ECMA-48)."""


def logs(
    execution: ExecutionArgument,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", metavar="KEY|NAME", help="Only what this checkpoint printed.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="flow|runner", help="Only what the flow, or the runner, said.")
    ] = None,
    attempt: Annotated[
        int | None, typer.Option("--attempt", metavar="N", help="Only this attempt; by default all, in order.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", help="Only the last so many.")] = None,
    offset: Annotated[
        int | None, typer.Option("--offset", metavar="BYTES", help="Go on behind the line that had this offset.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the execution has ended.")] = False,
    interval: Annotated[
        float | None,
        typer.Option("--interval", metavar="SECONDS", min=0.01, help="With -f: how often to look, at least."),
    ] = None,
    grouped: Annotated[bool, typer.Option("--grouped", help="Checkpoint by checkpoint.")] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="With time, level, checkpoint; -vv with the line too.")
    ] = 0,
    output: Output = Format.text,
) -> Answer:
    """Print what an execution wrote to stdout, stderr and logging, as it was written.

    Exit code with -f: 0 completed, 1 failed or cancelled, 130 Ctrl-C, which ends the following alone.
    """
    from kitaru_registry.errors import KitaruUsageError

    client = open_client()
    wanted: Wanted = {"checkpoint": checkpoint, "source": source, "attempt": attempt}
    if follow and grouped:
        raise KitaruUsageError("--grouped needs the whole log, and --follow does not wait for it", hint="use one")
    if interval is not None and not follow:
        raise KitaruUsageError("--interval says how often to look for more", hint="add --follow, or leave it out")
    if not follow:
        if output is Format.json:
            return items(client.executions.logs(execution, **wanted, limit=limit, offset=offset), nothing)
        found: Iterable[LogEntry]
        if limit is None:
            found = client.executions.each_log_entry(execution, **wanted, offset=offset or 0)
        else:
            found = client.executions.logs(execution, **wanted, limit=limit, offset=offset)
        with quiet_when_unread():
            for line in logs_text(found, grouped=grouped, verbose=verbose):
                print(line)
            sys.stdout.flush()
        return streamed(0)
    follower = Follower(client, client.executions.handle(execution).exec_id, output, verbose)
    with quiet_when_unread():
        return follower.run(wanted, limit=limit, offset=offset, interval=interval or INTERVAL_SECONDS)
    return streamed(0)


class Wanted(TypedDict):
    checkpoint: str | None
    source: str | None
    attempt: int | None


class Follower:
    """Prints what comes: lines for people, or one JSON object for each event.

    {"command", "event": "log", "item": a line}, `waiting`, `stopped` (its process is gone) and `terminal` with the
    execution, `interrupted`.
    """

    def __init__(self, client: KitaruClient, exec_id: ExecutionId, output: Format, verbose: int) -> None:
        self._client = client
        self._exec_id = exec_id
        self._as_json = output is Format.json
        self._verbose = verbose
        self._offset = 0
        self._stopped = False

    def run(self, wanted: Wanted, *, limit: int | None, offset: int | None, interval: float) -> Answer:
        from kitaru_registry.models import LogEntry

        executions, code = self._client.executions, 0
        try:
            self._offset = offset or 0
            if limit is not None and offset is None:
                for entry in executions.logs(self._exec_id, **wanted, limit=limit):
                    self._entry(entry)
            for found in executions.follow(self._exec_id, **wanted, offset=self._offset, interval=interval):
                if isinstance(found, LogEntry):
                    self._entry(found)
                else:
                    code = exit_code(found)
                    self._execution(found)
        except KeyboardInterrupt:
            return self._interrupted()
        return streamed(code)

    def _entry(self, entry: LogEntry) -> None:
        if self._as_json:
            self._event("log", as_json(entry))
        else:
            print(entry_text(entry, self._verbose), flush=True)
        self._offset = entry.offset

    def _execution(self, execution: Execution) -> None:
        event = {"waiting": "waiting", "running": "stopped", "pending": "stopped"}.get(execution.status, "terminal")
        self._stopped = event == "stopped"
        if self._as_json:
            self._event(event, as_json(execution))
            return
        show(event_parts(event, execution), sys.stderr)

    def _interrupted(self) -> Answer:
        if self._as_json:
            self._event("interrupted", {"exec_id": self._exec_id, "offset": self._offset})
        else:
            go_on = f"kitaru executions logs {short_id(self._exec_id)} --follow --offset {self._offset}"
            said = "follow it" if self._stopped else "the execution goes on; follow it"
            show(["", dim(f"{said} again: {go_on}")], sys.stderr)
        return streamed(INTERRUPTED)

    def _event(self, event: str, item: object) -> None:
        print(json.dumps({"command": COMMAND, "event": event, "item": item}), flush=True)


def event_parts(event: str, execution: Execution) -> Sequence[Part]:
    if event == "waiting":
        return [part for wait in execution.pending_waits for part in wait_parts(wait, execution.exec_id)]
    if event == "stopped":
        return [dim(f"{short_id(execution.exec_id)} is {execution.status}: {execution.status_reason}")]
    return outcome_notes(execution)


def logs_text(entries: Iterable[LogEntry], *, grouped: bool, verbose: int) -> Iterator[str]:
    if not grouped:
        yield from (entry_text(entry, verbose) for entry in entries)
        return
    groups: dict[str, list[LogEntry]] = {}
    for entry in entries:
        groups.setdefault(place_of(entry), []).append(entry)
    for number, (place, own) in enumerate(groups.items()):
        yield ("\n" if number else "") + painted(place, "1", sys.stdout)
        yield from (textwrap.indent(entry_text(entry, verbose), "  ") for entry in own)


def place_of(entry: LogEntry) -> str:
    """The checkpoint's key; who spoke, where it was none."""
    return entry.checkpoint or entry.source


def entry_text(entry: LogEntry, verbose: int) -> str:
    """The message as it was printed, without what would steer the reader's terminal."""
    message = visible(ESCAPE_SEQUENCE.sub("", entry.message))
    if entry.source == RUNNER:
        message = painted(f"kitaru: {message}", "2", sys.stdout)
    if not verbose:
        return message
    time = f"{entry.timestamp.astimezone():%H:%M:%S.%f}"[:-3] if entry.timestamp else " " * 12
    line = f" {entry.logger} {entry.filename}:{entry.lineno}" if verbose > 1 and entry.filename else ""
    told = f"{time} {entry.attempt} {entry.level or entry.stream or '-':<7} {place_of(entry)}{line}"
    return f"{painted(told, '2', sys.stdout)}  {message}"


@contextmanager
def quiet_when_unread() -> Iterator[None]:
    """End in peace where the reader of a pipe has enough: `kitaru executions logs ... | head`."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
