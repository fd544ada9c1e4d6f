"""An execution as people read it: its record, its checkpoints, what it waits for, how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kitaru_cli.tables import Facts, Part, Styled, Table, bold, dim, status
from kitaru_cli.versions import type_name
from kitaru_cli.words import (
    NO_TIME,
    ago,
    counted,
    moment,
    now,
    short_digest,
    short_id,
    took,
    value_line,
    value_text,
    version_of,
)

if TYPE_CHECKING:
    from kitaru_registry.models import CheckpointCall, ChildExecution, ErrorDetail, Execution, Wait

COMPLETED, FAILED, NOT_FINISHED = 0, 1, 6


def exit_code(execution: Execution) -> int:
    return {"completed": COMPLETED, "failed": FAILED, "cancelled": FAILED}.get(execution.status, NOT_FINISHED)


def executions_text(executions: Sequence[Execution]) -> Sequence[Part]:
    if not executions:
        return [dim("No executions: kitaru invoke FLOW")]
    seen_from = now()
    rows = [
        (
            bold(short_id(found.exec_id)),
            found.flow,
            code_of(found),
            status_of(found),
            ago(found.created_at, seen_from),
            duration(found),
        )
        for found in executions
    ]
    table = Table(("execution", "flow", "version", "status", "created", "took"), rows, wraps=frozenset({"flow"}))
    reasons: list[Part] = [
        dim(f"{short_id(found.exec_id)}: {found.status_reason}") for found in executions if found.status_reason
    ]
    return [table, *(["", *reasons] if reasons else [])]


def status_of(execution: Execution) -> Styled:
    """`completed, with 2 warnings`; `running (process gone)`"""
    if execution.process_gone:
        return Styled(f"{execution.status} (process gone)", "red")
    if not execution.warnings:
        return status(execution.status)
    return Styled(f"{execution.status}, with {counted(len(execution.warnings), 'warning')}", "yellow")


def code_of(execution: Execution) -> str:
    """Its version; the digest of its snapshot where that is a parent's, which has its version under another name."""
    if execution.version is None and execution.kind == "deployed" and execution.digest:
        return short_digest(execution.digest)
    return version_of(execution.version, execution.tag)


def duration(execution: Execution) -> str:
    """From start to end, or to now; a wait counts, a queue does not."""
    open_until = now() if execution.status == "running" else None
    return took(execution.started_at, execution.ended_at or open_until)


def execution_text(execution: Execution) -> Sequence[Part]:
    parts: list[Part] = [record(execution)]
    if execution.checkpoints:
        parts += ["", checkpoints_table(execution.checkpoints)]
    if execution.children:
        parts += ["", children_table(execution.children)]
    for wait in execution.pending_waits:
        parts += ["", *wait_parts(wait, execution.exec_id)]
    if execution.warnings:
        parts += ["", *(Styled(f"warning: {said}", "yellow") for said in execution.warnings)]
    if execution.error:
        parts += ["", *error_parts(execution.error)]
    if execution.status == "completed" and execution.deleted_at is None:
        parts += ["", bold("result"), value_text(execution.result)]
    return parts


def record(execution: Execution) -> Facts:
    seen_from = now()
    rows: list[tuple[str, str | Styled]] = [
        ("id", bold(execution.exec_id)),
        ("flow", f"{execution.flow} {code_of(execution)}"),
        ("status", status_of(execution)),
        *([("because", execution.status_reason)] if execution.status_reason else []),
        ("inputs", value_line(execution.inputs)),
        ("created", f"{moment(execution.created_at, seen_from)} by {execution.actor}"),
        ("took", duration(execution)),
        ("attempt", str(execution.attempt)),
    ]
    if execution.original_exec_id and execution.replay_of:
        where = f", from {execution.replay_of.from_}" if execution.replay_of.from_ else ""
        rows.append(("replay of", f"{execution.original_exec_id}{where}"))
    rows += [("accepted", f"{it.key}, by {it.actor}: {it.reason}") for it in execution.accepted]
    if execution.digest:
        rows.append(("digest", dim(execution.digest)))
    if execution.source:
        rows.append(("source", f"{execution.source.folder} {execution.source.entrypoint}"))
    if execution.parent:
        rows.append(("parent", execution.parent))
    if execution.metadata:
        rows.append(("logged", value_line(execution.metadata)))
    return Facts(rows)


def checkpoints_table(checkpoints: Sequence[CheckpointCall]) -> Table:
    rows = [
        (
            call.key,
            dim("reused") if call.reused and call.status == "completed" else status(call.status),
            str(call.attempts),
            took(call.started_at, call.ended_at),
            error_line(call.error) if call.error else unkept(call),
        )
        for call in checkpoints
    ]
    columns = ("checkpoint", "status", "tries", "took", "")
    return Table(columns, rows, wraps=frozenset({"checkpoint", ""}), right=frozenset({"tries", "took"}))


def error_line(error: ErrorDetail) -> str:
    return f"{error.type}: {error.message}" if error.message else error.type


def children_table(children: Sequence[ChildExecution]) -> Table:
    rows = [(child.key, status(child.status), bold(short_id(child.exec_id))) for child in children]
    return Table(("child", "status", "execution"), rows, wraps=frozenset({"child"}))


def unkept(call: CheckpointCall) -> str:
    return f"{short_digest(call.output_digest)}, not kept" if call.output_digest else ""


def wait_parts(wait: Wait, exec_id: str) -> Sequence[Part]:
    """The question, and the command that answers it."""
    question = wait.question or f"It waits for {wait.name}."
    return [
        Styled(f"waits for {wait.key}: {question}", "yellow"),
        f"answer it: kitaru waits answer {short_id(exec_id)} {wait.key} --value {example_answer(wait)}",
    ]


def example_answer(wait: Wait) -> str:
    """A value of the wait's schema, quoted for a shell; the type's name where there is no obvious one."""
    if wait.schema_ is None:  # a go-ahead, which gives None
        return "null"
    schema = wait.schema_
    if "enum" in schema:
        return f"'{value_line(schema['enum'][0])}'"
    plain = {"boolean": "true", "string": "'\"text\"'", "integer": "1", "number": "1.5", "array": "'[]'"}
    return plain.get(type_name(schema), "'{...}'" if schema.get("type") == "object" else "JSON")


def error_parts(error: ErrorDetail) -> Sequence[Part]:
    """The traceback as Python prints it, which checkpoint and line it was, and what to do if Kitaru knows."""
    place = f" in {error.checkpoint}" if error.checkpoint else ""
    line = f" at {error.file}:{error.line}" if error.file and error.line else ""
    hint = [f"hint:   {error.hint}"] if error.hint else []
    if error.traceback:
        return [error.traceback.rstrip("\n"), Styled(f"failed{place}{line}", "red"), *hint]
    return [Styled(f"{error.type}: {error.message}{place}{line}", "red"), *hint]


def outcome_parts(execution: Execution) -> Sequence[Part]:
    """What `run` and `invoke` print to stdout: the result, or what it waits for."""
    if execution.status == "completed":
        return [value_text(execution.result)]
    below: list[Part] = [
        f"waits for its child {child.flow}: kitaru executions get {short_id(child.exec_id)}"
        for child in execution.children
        if child.status == "waiting" and not execution.pending_waits
    ]
    return below + [part for wait in execution.pending_waits for part in wait_parts(wait, execution.exec_id)]


def outcome_notes(execution: Execution) -> Sequence[Part]:
    """One line about the execution itself, for stderr, after its error if it has one."""
    name = f"{execution.flow} {code_of(execution)}"
    reason = f": {execution.status_reason}" if execution.status_reason and not execution.error else ""
    spent = duration(execution)
    after = "" if spent == NO_TIME else f" after {spent}"
    said = dim(f"{name} {execution.exec_id} {status_of(execution).text}{after}{reason}")
    if execution.warnings and not execution.error:
        look = f"kitaru executions get {short_id(execution.exec_id)}"
        return [replace(said, style="yellow"), Styled(f"look at them: {look}", "yellow")]
    if execution.error:
        return [*error_parts(execution.error), said, dim(f"kitaru executions get {short_id(execution.exec_id)}")]
    if execution.status in ("pending", "running"):
        return [said, dim(f"look again: kitaru executions get {short_id(execution.exec_id)}")]
    return [said]
