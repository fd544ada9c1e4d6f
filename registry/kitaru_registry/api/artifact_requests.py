"""What executions produced, what from what, and what they printed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kitaru_registry.api.request import Request
from kitaru_registry.models import Artifact, Lineage, LogEntry
from kitaru_registry.records.answers import EncodedValue, LogPage


@dataclass(frozen=True)
class ArtifactQuery:
    """Which artifacts; without anything, all of them."""

    name: str | None = None
    kind: str | None = None
    """`step_output`, `manual`, `answer`, `result`"""
    type: str | None = None
    tag: str | None = None
    producing_call: str | None = None
    """A checkpoint's key."""
    flow: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class GetArtifact(Request[Artifact]):
    """An artifact by its id: `EXEC/KEY`, `EXEC/KEY:NAME` or `EXEC`.

    Raises:
        KitaruNotFoundError: there is none, or its execution's values were deleted.
        KitaruConflictError: several executions fit the id.
        KitaruUsageError: it can be no id.
    """

    artifact_id: str


@dataclass(frozen=True, kw_only=True)
class ReadArtifact(Request[EncodedValue]):
    """An artifact's verified bytes.

    Raises:
        KitaruNotFoundError: there is none, or its execution's values were deleted.
        KitaruConflictError: several executions fit the id.
        KitaruStateError: only its digest was kept.
        KitaruUsageError: it can be no id.
    """

    artifact_id: str


@dataclass(frozen=True, kw_only=True)
class PickArtifact(Request[tuple[Artifact, EncodedValue]]):
    """The one that `load` means: saved under that name; else the output of the checkpoint of that key or name.

    Raises:
        KitaruNotFoundError: there is none, or its execution's values were deleted.
        KitaruConflictError: several fit.
        KitaruStateError: only its digest was kept.
        KitaruUsageError: the index is no number, or the name no text.
    """

    exec_id: str
    name: str
    index: int | None = None
    """Which of several, in recorded order; negative ones count from the last."""


@dataclass(frozen=True, kw_only=True)
class ListArtifacts(Request[list[Artifact]]):
    """Those of an execution, in recorded order.

    Raises:
        KitaruNotFoundError: there is no such execution, or its values were deleted.
        KitaruConflictError: several fit its id.
        KitaruUsageError: a limit below 1.
    """

    exec_id: str
    query: ArtifactQuery = ArtifactQuery()
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class SearchArtifacts(Request[list[Artifact]]):
    """Those of all executions of a project, the newest first.

    Raises:
        KitaruUsageError: a limit below 1.
    """

    project: str
    query: ArtifactQuery = ArtifactQuery()
    limit: int = 50


@dataclass(frozen=True, kw_only=True)
class GetLineage(Request[Lineage]):
    """What an artifact was made from (`up`), or what was made from it (`down`), across executions.

    Raises:
        KitaruNotFoundError: there is no such artifact.
        KitaruConflictError: several executions fit its id.
        KitaruUsageError: another direction.
    """

    artifact_id: str
    direction: str = "up"
    depth: int | None = None
    """How many links away; by default, and at most, 100."""


@dataclass(frozen=True)
class LogQuery:
    """Which lines of a log."""

    checkpoint: str | None = None
    """Its key, or its name for all calls of it; with those that it called."""
    source: str | None = None
    """`flow` (or `step`) or `runner`"""
    attempt: int | None = None


@dataclass(frozen=True, kw_only=True)
class TailLog(Request[list[LogEntry]]):
    """The last lines of what an execution printed, in the order of writing.

    Raises:
        KitaruNotFoundError: there is no such execution, it has no such checkpoint, or it was deleted.
        KitaruConflictError: several fit its id.
        KitaruUsageError: no such source, a limit or attempt below 1.
    """

    exec_id: str
    query: LogQuery = LogQuery()
    limit: int


@dataclass(frozen=True, kw_only=True)
class ReadLog(Request[LogPage]):
    """What an execution printed, and its runner remarked, from an offset on, a page at a time.

    Raises:
        KitaruNotFoundError: there is no such execution, it has no such checkpoint, or it was deleted.
        KitaruConflictError: several fit its id.
        KitaruUsageError: no such source, a limit or attempt below 1, a negative offset.
    """

    exec_id: str
    query: LogQuery = LogQuery()
    offset: int = 0
    """In bytes; beyond its end the log is read from its beginning: it was made anew."""
    limit: int = 1000
    """Lines, at most."""
    all_of_it: bool = True
    """With the last line, although it has no newline yet."""
    must_fit: bool = True
    """Refuse a checkpoint that the execution has not, where no line fits."""
