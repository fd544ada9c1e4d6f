"""How the requests of artifact_requests are answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from kitaru_registry.api.artifact_requests import (
    ArtifactQuery,
    GetArtifact,
    GetLineage,
    ListArtifacts,
    LogQuery,
    PickArtifact,
    ReadArtifact,
    ReadLog,
    SearchArtifacts,
    TailLog,
)
from kitaru_registry.api.holdings import Holdings
from kitaru_registry.api.request import Actor
from kitaru_registry.errors import KitaruNotFoundError, KitaruUsageError
from kitaru_registry.executions import artifacts, lineage, reading
from kitaru_registry.executions.logs import LogFilter, as_entry, lines_from, read_log, within
from kitaru_registry.journal.log_lines import log_file
from kitaru_registry.models import Artifact, ExecutionId, Lineage, LogEntry
from kitaru_registry.records.answers import EncodedValue, LogPage

SHOWN_KEYS = 10


def get(at: Holdings, asked: GetArtifact, by: Actor) -> Artifact:
    return artifacts.get(at.database, asked.artifact_id)


def read(at: Holdings, asked: ReadArtifact, by: Actor) -> EncodedValue:
    artifact, data = artifacts.read(at.database, asked.artifact_id)
    return EncodedValue.model_construct(codec=artifact.codec, data=data)


def pick(at: Holdings, asked: PickArtifact, by: Actor) -> tuple[Artifact, EncodedValue]:
    found = reading.find_id(at.database, asked.exec_id)
    artifact, data = artifacts.pick(at.database, found, asked.name, index=asked.index)
    return artifact, EncodedValue.model_construct(codec=artifact.codec, data=data)


def list_artifacts(at: Holdings, asked: ListArtifacts, by: Actor) -> list[Artifact]:
    with at.database.read() as connection:
        row = reading.require_values(connection, reading.find_on(connection, asked.exec_id))
    wanted = artifacts.Wanted(execution=row, **fields_of(asked.query))
    return artifacts.in_order(at.database, wanted, limit=asked.limit)


def search(at: Holdings, asked: SearchArtifacts, by: Actor) -> list[Artifact]:
    wanted = artifacts.Wanted(project=asked.project, **fields_of(asked.query))
    return artifacts.search(at.database, wanted, limit=asked.limit)


def fields_of(query: ArtifactQuery) -> dict[str, Any]:
    """The original's users ask for a kind `prompt`, which is a type here."""
    given = asdict(query)
    if query.kind is not None and query.type is None and query.kind not in artifacts.KINDS.values():
        given |= {"kind": None, "type": query.kind}
    return given


def get_lineage(at: Holdings, asked: GetLineage, by: Actor) -> Lineage:
    return lineage.trace(at.database, asked.artifact_id, direction=asked.direction, depth=asked.depth)


def tail_log(at: Holdings, asked: TailLog, by: Actor) -> list[LogEntry]:
    found, path, wanted = log_of(at, asked.exec_id, asked.query)
    entries = read_log(path, wanted=wanted, limit=asked.limit)
    if not entries:
        require_checkpoint(at, found, asked.query.checkpoint)
    return entries


def read_log_page(at: Holdings, asked: ReadLog, by: Actor) -> LogPage:
    if asked.limit < 1:
        raise KitaruUsageError(f"a limit of {asked.limit} shows nothing", hint="a limit of 1 or more")
    found, path, wanted = log_of(at, asked.exec_id, asked.query)
    size = path.stat().st_size if path.exists() else 0
    end = offset = asked.offset if asked.offset <= size else 0
    entries: list[LogEntry] = []
    looked_at = 0
    for line in islice(lines_from(path, offset, all_of_it=asked.all_of_it), asked.limit):
        looked_at, end = looked_at + 1, line.end
        if wanted.fits(line):
            entries.append(as_entry(line))
    is_end = looked_at < asked.limit
    if is_end and not entries and asked.must_fit:
        require_checkpoint(at, found, asked.query.checkpoint)
    return LogPage.model_construct(entries=tuple(entries), offset=end, is_end=is_end)


def log_of(at: Holdings, exec_id: str, query: LogQuery) -> tuple[ExecutionId, Path, LogFilter]:
    with at.database.read() as connection:
        found = reading.find_on(connection, exec_id)
        reading.require_values(connection, found)
    wanted = LogFilter(checkpoint=query.checkpoint, source=query.source, attempt=query.attempt)
    return found, log_file(at.home, found), wanted


def require_checkpoint(at: Holdings, exec_id: ExecutionId, wanted: str | None) -> None:
    if wanted is None:
        return
    with at.database.read() as connection:
        keys = list(reading.read_calls(connection, reading.row_of(connection, exec_id)).calls)
    if not any(within(key, wanted) for key in keys):
        known = ", ".join(keys[:SHOWN_KEYS]) + (" ..." if len(keys) > SHOWN_KEYS else "")
        raise KitaruNotFoundError(
            f"execution {exec_id} has no checkpoint {wanted}; it has: {known or 'none'}",
            hint=f"kitaru executions get {exec_id}",
        )


ANSWERS: Mapping[type, Callable[[Holdings, Any, Actor], Any]] = {
    GetArtifact: get,
    ReadArtifact: read,
    PickArtifact: pick,
    ListArtifacts: list_artifacts,
    SearchArtifacts: search,
    GetLineage: get_lineage,
    TailLog: tail_log,
    ReadLog: read_log_page,
}
