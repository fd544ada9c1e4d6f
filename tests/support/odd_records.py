"""Executions in every state that hold what is hard to show: values, errors, metadata, questions, names."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from queues import Queue

from kitaru_registry.deployments import versions
from kitaru_registry.executions import ending, waits
from kitaru_registry.executions.journal import Artifact, Row
from kitaru_registry.models import Digest, FlowOptions, GitFacts, Origin, SnapshotConfig
from kitaru_runner.values import codec
from kitaru_runner.values.failures import describe_failure


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def keyed(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(depth):
        found = {"a": found}
    return found


VALUES: tuple[Any, ...] = (
    {"a\ud800": 1}, "\ud800", nested(300), nested(450), keyed(300), keyed(450), "\0", float("nan"), [float("inf")],
    10**3000, b"\xff", {"x": b"\0" * 10}, {1: 2}, (nested(200), 2), {3}, "x" * 2_000_000, "\x1b[31m", {"\0": 1},
)  # fmt: skip


def described(value: object) -> dict[str, Any]:
    try:
        raise ValueError(value)
    except ValueError as error:
        return describe_failure(error, checkpoint="odd")


def write_odd_records(queue: Queue) -> list[str]:
    """Their ids, those of one execution in each plain state first."""
    states = ("pending", "running", "waiting", "completed", "failed", "cancelled")
    plain = [str(queue.new(status=status).exec_id) for status in states]
    return plain + [write_one(queue, number, value) for number, value in enumerate(VALUES)]


def write_one(queue: Queue, number: int, value: object) -> str:
    made = queue.new(status="running")
    row, writer, encoded = made.row, queue.writer, codec.encode(value)
    shown = json.dumps({"k": value if codec.is_json(value) else 1})
    kept = writer.value(encoded.codec, encoded.data)
    error = described(value)
    rows = [
        Row("c", "odd", 1, value=kept, metadata=shown),
        Row("c", "bad", 2, error=json.dumps(error)),
        Row("l", "log", 3, metadata=shown),
        Row("s", "save:n\u202e", 4, artifacts=(Artifact("n\u202e", "output", ("t",), kept),)),
    ]
    writer.append(row.id, row.attempt, rows)
    if number % 3 == 0:
        ending.finish(queue.database, row.id, row.attempt, result=kept, error=None)
    elif number % 3 == 1:
        ending.finish(queue.database, row.id, row.attempt, result=None, error=error)
    else:
        made.ask("ask\x1b", schema={"type": "object"} if number % 2 else None)
        made.park("ask\x1b")
        if number % 2:
            waits.answer(queue.database, made.exec_id, "ask\x1b", json.loads(shown), actor="me", door="test")
    return str(made.exec_id)


def write_versions(queue: Queue, folder: str) -> None:
    """v1 and v2 of a flow `review`; no code stands behind them."""
    for number in (1, 2):
        digest = Digest("sha256:" + hashlib.sha256(b"%d" % number).hexdigest())
        schema = {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]}
        config = SnapshotConfig(
            flow="review", entrypoint="flows.py:review", options=FlowOptions(), input_schema=schema, output_schema=None,
            python="3.11", platform="linux-x86_64", protocol=1, codec=1, kitaru="0.1.0", code=digest, lock=digest,
            wheels={},
        )  # fmt: skip
        versions.register(
            queue.database, project="default", flow="review", digest=digest, config=config, actor="me@laptop",
            origin=Origin(remote=None, root_commit=None, folder=folder),
            git=GitFacts(commit="3f2a1b0c9d", branch="main", dirty=True),
        )  # fmt: skip
