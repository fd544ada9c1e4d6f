"""What the registry answers with: frozen records, and the words of the JSON contract.

Times are aware UTC datetimes. `model_dump(mode="json", by_alias=True)` of a record is what
`--output json` prints as an item.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NewType

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hex digits."""

ExecutionId = NewType("ExecutionId", str)
"""A UUID, version 7: it sorts by creation time."""

Routes = dict[str, int]
"""Version name to share in percent: `{"v3": 100}`."""

JsonSchema = dict[str, Any]


class Record(BaseModel):
    # Validators are built when first used: a command needs few of these, and building all takes 0.1 s.
    model_config = ConfigDict(frozen=True, populate_by_name=True, defer_build=True)


class GitFacts(Record):
    """Where a deploy's files came from. Facts of a deploy event, never part of a digest."""

    commit: str | None
    branch: str | None
    dirty: bool
    remote: str | None = None
    """Without credentials."""


class Origin(Record):
    """Who a flow name belongs to.

    One origin are equal folders on one machine, and equal places in repositories with an equal remote or first commit.
    """

    remote: str | None
    root_commit: str | None
    folder: str
    prefix: str = ""
    """Where the project is in its repository: empty at the top, else `services/notes/`."""

    def is_same(self, other: Origin) -> bool:
        return self.folder == other.folder or (
            self.prefix == other.prefix
            and (
                (self.remote is not None and self.remote == other.remote)
                or (self.root_commit is not None and self.root_commit == other.root_commit)
            )
        )


class BlobCounts(Record):
    total: int
    new: int
    bytes_total: int
    bytes_new: int


class DeployEvent(Record):
    at: datetime
    actor: str
    git: GitFacts | None
    created: bool
    """False where the digest was a version already."""


class FlowOptions(Record):
    """What `@flow(...)` and `[flows.X]` say of a flow; part of its identity."""

    retries: int = 0
    cache: bool | None = None
    finish_timeout: float | None = None
    """Seconds from its start to its end."""
    env: tuple[str, ...] = ()
    """Names of environment variables that a child of this flow may see. Never their values."""
    pickle: Literal["forbid"] | None = None
    """`forbid`: no value of it is pickled."""
    divergence: Literal["strict"] | None = None
    """`strict`: a recorded call that has other arguments fails a resumed execution."""

    @model_serializer(mode="wrap")
    def without_what_is_unset(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """So that a new option changes no digest of a flow that does not use it."""
        dumped: dict[str, Any] = serialize(self)
        return {name: value for name, value in dumped.items() if value is not None}


class SnapshotFacts(Record):
    """What identifies a snapshot beside its blobs."""

    flow: str
    entrypoint: str
    """`path/in/code.py:name`"""
    options: FlowOptions
    input_schema: JsonSchema
    output_schema: JsonSchema | None
    python: str
    """The minor: `3.11`."""
    platform: str
    """`linux-x86_64`"""
    protocol: int
    codec: int
    kitaru: str
    """The version of the Kitaru wheel inside."""


class SnapshotConfig(SnapshotFacts):
    """The config blob: everything that identifies a snapshot, its other blobs by digest."""

    schema_version: int = Field(default=1, alias="schema")
    code: Digest
    lock: Digest
    wheels: dict[str, Digest]
    """File name to digest."""


class Version(Record):
    project: str
    flow: str
    version: int
    digest: Digest
    created_at: datetime
    tags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"v{self.version}"


class VersionDetail(Version):
    config: SnapshotConfig
    deploys: tuple[DeployEvent, ...]
    """Newest first."""


class Deployed(Record):
    """What `deploy` prints."""

    project: str
    flow: str
    version: int
    digest: Digest
    created: bool
    tags: tuple[str, ...]
    git: GitFacts | None
    blobs: BlobCounts
    changed: tuple[str, ...] = ()
    """What differs from the version before, in words: `code: flows/review.py`, `wheel: httpx 0.28.1`."""
    warnings: tuple[str, ...] = ()


class FlowSummary(Record):
    project: str
    flow: str
    versions: int
    latest: int | None
    tags: dict[str, Routes]
    created_at: datetime


class TagState(Record):
    project: str
    flow: str
    tag: str
    routes: Routes
    frozen: bool
    moved_at: datetime
    actor: str


class TagMove(Record):
    """One row of a tag's append-only history."""

    project: str
    flow: str
    tag: str
    from_: Routes | None = Field(alias="from")
    to: Routes | None
    moved: bool = True
    kind: str = "move"
    """`deploy`, `move`, `rollback`, `delete`"""
    frozen: bool = False
    actor: str
    reason: str | None
    commit: str | None = None
    at: datetime
    still_running: int = 0
    """Open executions of versions that this move took out of the route."""


class ErrorDetail(Record):
    type: str
    message: str
    traceback: str | None = None
    origin: str
    """`user_code`, `divergence`, `crashed`, `runtime`, `backend`"""
    checkpoint: str | None = None
    file: str | None = None
    line: int | None = None
    hint: str | None = Field(default=None, repr=False)
    """Of an error of Kitaru's own: what to do."""
    failed: tuple[str, ...] = ()
    """The checkpoints whose failures reached the top of the flow: what a retry executes again."""

    @property
    def exception_type(self) -> str:
        return self.type


class CheckpointCall(Record):
    key: str
    name: str
    status: str
    """`running`, `completed`, `failed`; `passed`: it raised what steers its caller, and is no failure."""
    attempts: int
    """Tries that were recorded, the last one included."""
    started_at: datetime | None
    ended_at: datetime | None
    type: str | None = None
    error: ErrorDetail | None = None
    metadata: dict[str, Any] = {}
    reused: bool = False
    """Of a replay: it was recorded by the original, or given."""
    output_digest: Digest | None = None
    """sha256 of an output that was not kept (`record="digest"`)."""

    @property
    def call_id(self) -> str:
        return self.key

    @property
    def checkpoint_type(self) -> str | None:
        return self.type

    @property
    def failure(self) -> ErrorDetail | None:
        return self.error


class Wait(Record):
    key: str
    name: str
    question: str | None
    schema_: JsonSchema | None = Field(alias="schema")
    metadata: dict[str, Any] | None
    entered_at: datetime
    deadline: datetime | None
    """When an open wait expires."""
    status: str = "pending"
    """`pending`, `answered`, `expired`, `aborted`, `closed`; `early`: an answer that is kept for the first wait of that
    name, later `used` or, where it did not fit, `refused`; `superseded`: a retry has asked anew."""
    any_of: str | None = None
    """Key of the `wait_any` that it is a question of."""
    answer: Any = None
    answered_at: datetime | None = None
    answered_by: str | None = None
    door: str | None = None
    """By which it was answered: `cli`, `sdk`, `terminal`, `timer`."""
    exec_id: ExecutionId | None = None
    flow: str | None = None

    @property
    def wait_id(self) -> str:
        return self.key

    @property
    def entered_waiting_at(self) -> datetime:
        return self.entered_at


class ChildExecution(Record):
    """One that an execution started, as its parent's record shows it."""

    exec_id: ExecutionId
    flow: str
    key: str
    """Of the call that started it."""
    status: str


class Source(Record):
    """What a source execution ran on."""

    file: str
    entrypoint: str
    interpreter: str
    folder: str
    digest: Digest
    files: dict[str, str]
    """Path to sha256, so that a resume can name what changed."""
    hash_seed: int | None = None
    """PYTHONHASHSEED of its first process, which later ones get too; None: it had one at random."""


class ReplayOf(Record):
    """What a replay began with."""

    from_: str | None = Field(alias="from")
    """The key of the first call that was to execute again."""
    reused: int
    """How many rows of the original's journal."""
    overrides: tuple[str, ...] = ()
    only_recorded: bool = False


class AcceptedDivergence(Record):
    """Where the code went another way than its journal, and somebody let it."""

    key: str
    """The call that was found."""
    reason: str
    actor: str
    at: datetime


class Execution(Record):
    exec_id: ExecutionId
    project: str
    kind: str
    """`deployed` or `source`"""
    flow: str
    version: int | None
    digest: Digest | None
    tag: str | None
    status: str
    status_reason: str | None = None
    """Why it is where it is, in words: what a pending one needs, that a process is gone."""
    process_gone: bool = False
    """It is `running`, as its record says, and its process has died: whoever is the home's runner next goes on."""
    inputs: dict[str, Any]
    result: Any = None
    error: ErrorDetail | None
    attempt: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    actor: str
    metadata: dict[str, Any] = {}
    checkpoints: tuple[CheckpointCall, ...] = ()
    """In recorded order; empty in lists."""
    pending_waits: tuple[Wait, ...] = ()
    source: Source | None = None
    parent: ExecutionId | None = None
    """The execution that started this one."""
    children: tuple[ChildExecution, ...] = ()
    """Those that this one started, oldest first; empty in lists."""
    deleted_at: datetime | None = None
    """When its values were deleted; `status_reason` says by whom."""
    original_exec_id: ExecutionId | None = None
    """Of a replay: the execution that it was made of."""
    replay_of: ReplayOf | None = Field(default=None, alias="replay")
    accepted: tuple[AcceptedDivergence, ...] = ()
    """Empty in lists."""
    warnings: tuple[str, ...] = ()
    """What its code did otherwise than its journal has it: other arguments, another value."""


class Artifact(Record):
    """A value that an execution produced. What it was made from: `Lineage`."""

    artifact_id: str
    """To paste: `EXEC/KEY` of a checkpoint's output or a wait's answer, `EXEC/KEY:NAME` of what it saved, `EXEC` of a
    flow's result."""
    exec_id: ExecutionId
    flow: str
    version: int | None
    """The deployed version that produced it; None: a source execution."""
    name: str
    kind: str
    """`step_output`, `manual` (a `save`), `answer`, `result`"""
    type: str
    """Of a `save`, what it says; else `output`, and `input` for an answer."""
    tags: tuple[str, ...] = ()
    codec: str
    digest: Digest
    """sha256 of the encoded bytes; equal values of one codec have equal digests."""
    size: int | None
    """In bytes; None where the bytes are not there."""
    is_kept: bool = True
    """False under `@checkpoint(record="digest")`."""
    producing_call: str | None
    """Key of the checkpoint, or the wait; None where it is the flow's own."""
    created_at: datetime
    metadata: dict[str, Any] = {}
    """What the checkpoint logged."""

    @property
    def save_type(self) -> str:
        return "manual" if self.kind == "manual" else "step_output"


class LineageLink(Record):
    """One artifact beside another: what it was made from, or what was made from it."""

    ref: str
    """Its id, or what is known of one that is gone."""
    artifact: Artifact | None
    """None where its execution was deleted."""
    relation: str = "passed"
    """`passed` to the call; `same bytes`: a flow's result and the output that it is."""
    links: tuple[LineageLink, ...] = ()
    """Further in the same direction."""
    is_repeated: bool = False
    """It stands elsewhere in the tree, with its links."""


class Lineage(Record):
    artifact: Artifact
    direction: str
    """`up`: what it was made from. `down`: what was made from it."""
    links: tuple[LineageLink, ...]
    same_bytes: tuple[Artifact, ...] = ()
    """Other artifacts of this very content, the newest first."""


class Deleted(Record):
    """What a deletion took away; the executions' rows stay as tombstones."""

    exec_ids: tuple[ExecutionId, ...]
    expired: int = 0
    """Executions that the retention has deleted."""
    values: int = 0
    """Files in `values/` that nothing else named."""
    bytes: int = 0
    left: tuple[str, ...] = ()
    """What could not be deleted now, and why."""


class LogEntry(Record):
    """A line that an execution printed, or a remark of the runner's on it."""

    message: str
    """As it was printed, without the newline. One that came through `logging` may have several lines."""
    level: str | None = None
    """`INFO`, `ERROR`, ...; None for what was merely printed."""
    timestamp: datetime | None = None
    """None for what a subprocess wrote; so is everything below but `source`, `attempt` and `offset`."""
    source: str
    """`flow` or `runner`"""
    attempt: int
    checkpoint: str | None = None
    """Its key; None in the flow's body."""
    checkpoint_name: str | None = None
    stream: str | None = None
    """`stdout` or `stderr`"""
    logger: str | None = None
    module: str | None = None
    filename: str | None = None
    lineno: int | None = None
    offset: int
    """In bytes: where reading goes on behind this line."""


class RunnerState(Record):
    running: bool
    local: bool = True
    """Started by itself, as the home's one local runner."""
    pid: int | None = None
    started_at: datetime | None = None
    executions: tuple[ExecutionId, ...] = ()
    children: tuple[int | None, ...] = ()
    """The processes that execute them, in the same order."""
    home: str
    version: str | None = None
    lacks: tuple[str, ...] = ()
    """Environment variables that versions declare (`[flows.X] env`) and its own environment has not."""


class DoctorCheck(Record):
    name: str
    ok: bool
    message: str
    hint: str | None = None


class HomeStatus(Record):
    home: str
    project: str
    flows: tuple[FlowSummary, ...]
    running: int
    waiting: int
    pending: int
    overdue: int
    """Open executions whose process is gone, and waits past their deadline."""
    gone: int = 0
    """Of those that run: executions whose process is gone."""
    warned: int = 0
    """Executions that have completed in the last 24 hours, with warnings."""
    runner: RunnerState
