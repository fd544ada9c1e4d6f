"""The tables of the record, column by column.

A **flow** is a name in a project; who may deploy under it is its `origin`. It has **versions**, numbered from 1 by a
counter in the flow's own row, so that a number is never given out twice; each is a snapshot's digest. A version that
was deleted stays as a row. Each deploy, also one of bytes that were there, is a **deploy event**. A **tag** routes to a
version; **tag moves** are its history, which only grows, and each begins where the one before it ended.

An **execution** is `pending`, `running`, `waiting`, `completed`, `failed` or `cancelled`, and goes from one to another
only as records/states.py says. Whoever runs it owns an `attempt`, a number that rises with each claim: every write of
a process names its attempt, and one whose attempt is over writes nothing. It is due from `not_before_us` on, and its
owner has it until `lease_until_us`. Its **journal** is what was recorded of it, numbered from 1 without a gap; a row of
it is

    c  a checkpoint's outcome       x  a child execution was started
    t  a try that failed            r  a retry, and what it supersedes
    w  what came to a wait          a  a divergence that somebody accepted
    n  a value of now, random, ...  d  a remark: a warning, a kept outcome that was used
    s  an artifact was saved        e  a timer or thread of the flow's own came to its end
    l  metadata was logged

A **wait** is `pending` until it is `answered`, `expired`, `aborted`, or `closed` because nobody stands at it; `early`
is an answer that came before its question, later `used` or `refused` by it; a retry makes what it asks anew
`superseded`. A wait stands for somebody's input, for a time (`sleep`), or for a child execution's end. **Artifacts**
are values that were saved by name.

Values above 16 KB are kept by their sha256 beside the rows that name them: files in the home's `values/`, or, where the
record is not the home's own file, the **value chunks**. **Input parts** say which of them an execution was given.

Times are integers, microseconds since 1970 UTC.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, MetaData, Table, UniqueConstraint, text

from kitaru_registry.database.types import Bytes, Number, Words, document, last_digits

SCHEMA_VERSION = 4

SHOWN_DIGITS = 8
"""Of an execution's id, the last ones, which lists show."""

metadata = MetaData()


def only(condition: str) -> dict[str, Any]:
    """Of an index: the rows that it holds."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


flows = Table(
    "flows",
    metadata,
    Column("id", Number, primary_key=True),
    Column("project", Words, nullable=False),
    Column("name", Words, nullable=False),
    Column("origin", document(), nullable=False),
    # Counts on when versions are deleted: a number is never given out twice.
    Column("last_version", Number, nullable=False, default=0),
    Column("created_us", Number, nullable=False),
    UniqueConstraint("project", "name"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", Number, primary_key=True),
    Column("flow_id", ForeignKey("flows.id"), nullable=False),
    Column("number", Number, nullable=False),
    Column("digest", Words, nullable=False),
    Column("config", document(), nullable=False),
    Column("created_us", Number, nullable=False),
    Column("deleted_us", Number),
    UniqueConstraint("flow_id", "number"),
)
Index("versions_live_digest", versions.c.flow_id, versions.c.digest, unique=True, **only("deleted_us IS NULL"))

deploy_events = Table(
    "deploy_events",
    metadata,
    Column("id", Number, primary_key=True),
    Column("version_id", ForeignKey("versions.id"), nullable=False, index=True),
    Column("git", document(nullable=True)),
    Column("actor", Words, nullable=False),
    Column("created", Boolean, nullable=False),
    Column("at_us", Number, nullable=False),
)

tags = Table(
    "tags",
    metadata,
    Column("flow_id", ForeignKey("flows.id"), primary_key=True),
    Column("name", Words, primary_key=True),
    # Version name to share in percent; a tag that is here has exactly one route.
    Column("routes", document(), nullable=False),
    Column("frozen", Boolean, nullable=False, default=False),
    Column("actor", Words, nullable=False),
    Column("moved_us", Number, nullable=False),
)

tag_moves = Table(
    "tag_moves",
    metadata,
    Column("id", Number, primary_key=True),
    Column("flow_id", ForeignKey("flows.id"), nullable=False),
    Column("tag", Words, nullable=False),
    Column("kind", Words, nullable=False),
    Column("from_routes", document(nullable=True)),
    Column("to_routes", document(nullable=True)),
    Column("frozen", Boolean, nullable=False, default=False),
    Column("actor", Words, nullable=False),
    Column("reason", Words),
    Column("git_commit", Words),
    Column("at_us", Number, nullable=False),
    Index("tag_moves_of", "flow_id", "tag", "id"),
)

executions = Table(
    "executions",
    metadata,
    Column("id", Number, primary_key=True),
    Column("exec_id", Words, nullable=False, unique=True),
    Column("project", Words, nullable=False),
    Column("flow", Words, nullable=False),
    Column("kind", Words, nullable=False),
    Column("version", Number),
    Column("digest", Words),
    Column("tag", Words),
    Column("status", Words, nullable=False),
    # JSON for people and filters; the encoded form is what the flow is called with.
    Column("inputs", document(), nullable=False),
    Column("inputs_codec", Words, nullable=False),
    Column("inputs_data", Bytes, nullable=False),
    Column("idempotency_key", Words),
    Column("input_digest", Words, nullable=False),
    Column("actor", Words, nullable=False),
    Column("created_us", Number, nullable=False),
    Column("started_us", Number),
    Column("ended_us", Number),
    # The fence: every journal write names the attempt that it belongs to.
    Column("attempt", Number, nullable=False, default=0),
    Column("fruitless_attempts", Number, nullable=False, default=0),
    Column("attempt_start_seq", Number, nullable=False, default=0),
    Column("not_before_us", Number, nullable=False, default=0),
    Column("lease_until_us", Number),
    Column("owner", Words),
    Column("owner_pid", Number),
    Column("owner_host", Words),
    Column("needs", document(nullable=True)),
    Column("result_codec", Words),
    Column("result_data", Bytes),
    Column("result_digest", Bytes),
    Column("error", document(nullable=True)),
    Column("status_reason", Words),
    # What runs now, as of the last heartbeat: [{"key", "name", "tries", "started_us"}].
    Column("in_flight", document(nullable=True)),
    Column("cancel_requested_us", Number),
    Column("cancel_actor", Words),
    Column("source", document(nullable=True)),
    # A flow of the same snapshot that is not the one it was deployed for: a child flow's.
    Column("entrypoint", Words),
    Column("parent", Number),
    Column("parent_key", Words),
    Column("retries", Number, nullable=False, server_default="0"),
    Column("retries_used", Number, nullable=False, server_default="0"),
    # NULL: as each checkpoint says.
    Column("cache", Boolean),
    Column("finish_seconds", Float),
    Column("finish_by_us", Number),
    # Of a replay: {"of": exec_id, "from": key, "reused": seq, "overrides": [...], "only_recorded": bool}.
    Column("replay", document(nullable=True)),
    # Its values are gone; the row stays.
    Column("deleted_us", Number),
    # inputs_data names files in values/ (executions/inputs.py).
    Column("inputs_in_parts", Boolean, nullable=False, server_default="0"),
    Index("executions_by_flow", "project", "flow", "id"),
    Index("executions_by_project", "project", "id"),
    Index("executions_by_status", "status", "not_before_us"),
    Index(
        "executions_idempotency", "project", "flow", "idempotency_key",
        unique=True, **only("idempotency_key IS NOT NULL"),
    ),
    Index("executions_children", "parent", "parent_key", unique=True, **only("parent IS NOT NULL")),
    Index("executions_values", "result_digest", **only("result_digest IS NOT NULL")),
    Index("executions_finish_by", "finish_by_us", **only("finish_by_us IS NOT NULL")),
)  # fmt: skip

# The eight digits that lists show, and that people type.
Index("executions_by_end", last_digits(executions.c.exec_id, SHOWN_DIGITS))

journal = Table(
    "journal",
    metadata,
    Column("execution", Number, primary_key=True),
    Column("seq", Number, primary_key=True),
    Column("kind", Words, nullable=False),
    Column("key", Words, nullable=False),
    Column("attempt", Number, nullable=False),
    # Where it is not the key's own last part.
    Column("name", Words),
    Column("tries", Number),
    Column("place", Number),
    Column("type", Words),
    Column("codec", Words),
    # NULL with a digest: the bytes are a file in values/.
    Column("data", Bytes),
    Column("value_digest", Bytes),
    Column("error", Words),
    Column("metadata", Words),
    Column("inputs", Bytes),
    Column("started_us", Number),
    Column("ended_us", Number, nullable=False),
    # Of a checkpoint under cache=True: code and inputs.
    Column("cache_key", Bytes),
    # JSON list of the keys whose outcomes were passed to this call.
    Column("parents", Words),
    # 1: never executed in a replay. 2: the value is its digest alone.
    Column("flags", Number),
    Index("journal_cache", "cache_key", **only("cache_key IS NOT NULL")),
    # Which files in values/ are named.
    Index("journal_values", "value_digest", **only("value_digest IS NOT NULL")),
    Index("journal_remarks", "kind", "execution", **only("kind = 'd'")),
    # The rows of one execution lie together, in recorded order, with no second index to keep.
    sqlite_with_rowid=False,
)

waits = Table(
    "waits",
    metadata,
    Column("execution", Number, primary_key=True),
    Column("key", Words, primary_key=True),
    Column("name", Words, nullable=False),
    Column("question", Words),
    Column("schema", document(nullable=True)),
    Column("metadata", document(nullable=True)),
    Column("entered_us", Number, nullable=False),
    Column("deadline_us", Number),
    # input, sleep, child
    Column("kind", Words, nullable=False, server_default="input"),
    # The key under which the first answer to a group of waits is recorded (`wait_any`).
    Column("any_of", Words),
    # Row of the child execution that this stands for.
    Column("child", Number),
    Column("status", Words, nullable=False),
    Column("answer", document(nullable=True)),
    Column("answered_us", Number),
    Column("answered_by", Words),
    Column("door", Words),
    # When the row was made, by the machine's own clock: the order of those that were asked in one moment.
    Column("asked_ns", Number),
    Index("waits_deadline", "deadline_us", **only("status = 'pending' AND deadline_us IS NOT NULL")),
    Index("waits_child", "child", **only("child IS NOT NULL")),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", Number, primary_key=True),
    Column("execution", Number, nullable=False),
    # The checkpoint that saved it, or the save's own key in the flow's body.
    Column("key", Words, nullable=False),
    Column("name", Words, nullable=False),
    Column("type", Words, nullable=False),
    Column("tags", document(), nullable=False),
    Column("codec", Words, nullable=False),
    Column("data", Bytes),
    Column("value_digest", Bytes),
    Column("at_us", Number, nullable=False),
    Index("artifacts_of", "execution", "name"),
    Index("artifacts_values", "value_digest", **only("value_digest IS NOT NULL")),
)

# Files in values/ that hold parts of what executions were given.
input_parts = Table(
    "input_parts",
    metadata,
    Column("digest", Bytes, primary_key=True),
    Column("execution", Number, primary_key=True),
    Index("input_parts_of", "execution"),
    sqlite_with_rowid=False,
)

# Of a record that is not the home's own file: large values, in pieces.
value_chunks = Table(
    "value_chunks",
    metadata,
    Column("digest", Bytes, primary_key=True),
    Column("number", Number, primary_key=True),
    Column("data", Bytes, nullable=False),
    # Of the whole value, with its first piece.
    Column("size", Number),
    Column("touched_us", Number),
    sqlite_with_rowid=False,
)

# What each migration made of the record. Releases of schema `serves_from` and newer go on with it.
schema_versions = Table(
    "schema_versions",
    metadata,
    Column("version", Number, primary_key=True, autoincrement=False),
    Column("serves_from", Number, nullable=False),
    Column("at_us", Number, nullable=False),
)
