"""Answers that programs read, and no person is shown."""

from __future__ import annotations

from datetime import datetime

from pydantic import ConfigDict

from kitaru_registry.models import (
    CheckpointCall,
    Digest,
    ExecutionId,
    FlowSummary,
    LogEntry,
    Record,
    TagMove,
    Version,
    Wait,
)


class Registered(Record):
    """What came of a deploy, in the record."""

    version: Version
    created: bool
    """False where the digest was a version already: a deploy may be repeated."""
    moves: tuple[TagMove, ...]
    """Of `default` for v1, and of the tag that was asked for."""


class EncodedValue(Record):
    """A value as it was recorded; whoever knows its codec decodes it, and no code is run before."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    codec: str
    data: bytes


class CallPage(Record):
    """Some of an execution's checkpoints, in recorded order."""

    calls: tuple[CheckpointCall, ...]
    next: str | None
    """What to go on after; None: these were the last."""


class RunningExecution(Record):
    """An execution that somebody executes, as the record says."""

    exec_id: ExecutionId
    project: str
    kind: str
    attempt: int
    owner: str | None
    is_elsewhere: bool = False
    """Its owner is of another home than the one that was asked, and alive as far as the record knows."""


class Standing(Record):
    """Why an open execution is where it is."""

    status: str
    sleeps_until: datetime | None = None
    """When it goes on, where it waits for a time and for nobody."""
    is_late: bool = False
    """A time of it has come, and nobody has let it go on."""
    stands_still: bool = False
    """It waits, and not for children that go on."""
    is_elsewhere: bool = False
    """Its owner is of another home than the one that was asked."""
    fault: str | None = None
    """What the machine lacks to execute it, where that keeps it pending."""


class Work(Record):
    """What there is to do for an execution, for whoever sees to it that somebody does."""

    exec_id: ExecutionId
    project: str
    flow: str
    kind: str
    """`deployed` or `source`"""
    status: str
    digest: Digest | None = None
    variables: tuple[str, ...] = ()
    """Names that its snapshot declares, where it is open and deployed."""


class Answered(Record):
    """A wait that has its answer, and the execution that goes on with it."""

    wait: Wait
    work: Work


class LogPage(Record):
    """Some of a log's lines, in the order of writing."""

    entries: tuple[LogEntry, ...]
    offset: int
    """In bytes: where reading goes on, behind lines that did not fit too."""
    is_end: bool
    """Nothing more was there."""


class Root(Record):
    """An execution together with which another one goes on."""

    work: Work
    waits_for_child: bool
    """It stands at a child execution's end, among other things maybe."""


class Cancelled(Record):
    """Executions that were to be cancelled."""

    exec_id: ExecutionId
    status: str
    """Of the first; `running` where its process has to hear of it."""
    unheard: tuple[ExecutionId, ...]
    """Of it and those that it started: their processes have to hear of it."""


class Overview(Record):
    """What a project has, and what is open of it."""

    flows: tuple[FlowSummary, ...]
    counts: dict[str, int]
    """Executions by status."""
    late: tuple[ExecutionId, ...]
    """Open ones of which a time has come, and which nobody has let go on."""
    warned: int
    """Executions that have completed in the last 24 hours, with warnings."""
