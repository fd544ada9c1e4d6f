"""`kitaru waits`: the questions that executions have asked, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kitaru_cli.commands import LOOK, ExecutionArgument, Output, command, group, open_client
from kitaru_cli.execution_text import example_answer
from kitaru_cli.output import Answer, Format, item, items
from kitaru_cli.tables import Facts, Part, Styled, Table, bold, dim, status
from kitaru_cli.words import ago, due, first_line, indented, moment, now, short_id, value_line

if TYPE_CHECKING:
    from kitaru import KitaruClient
    from kitaru_registry.models import Wait

KeyArgument = Annotated[str | None, typer.Argument(metavar="KEY", help="Which wait; by default the only pending one.")]


def add_to(app: typer.Typer) -> None:
    waits = group(app, "waits", "List, show and answer what executions wait for.", section=LOOK)
    command(waits, "waits.list", examples=["kitaru waits list", "kitaru waits list --flow review_flow"])(list_waits)
    command(waits, "waits.show", examples=["kitaru waits show 3f2a91c4 approve"])(show)
    command(
        waits,
        "waits.answer",
        examples=["kitaru waits answer 3f2a91c4", "kitaru waits answer 3f2a91c4 approve --value true"],
    )(answer)


def list_waits(
    flow: Annotated[str | None, typer.Option("--flow", metavar="FLOW", help="Of this flow only.")] = None,
    execution: Annotated[
        str | None, typer.Option("--exec", metavar="EXECUTION", help="Of this execution only.")
    ] = None,
    output: Output = Format.text,
) -> Answer:
    """List the waits that nobody has answered, the newest first."""
    found = open_client().waits.list(flow=flow, exec_id=execution)
    return items(found, lambda: waits_text(found))


def show(execution: ExecutionArgument, key: KeyArgument = None, output: Output = Format.text) -> Answer:
    """Show one wait: its question, the schema of its answer, and the answer if there is one."""
    found = find(open_client(), execution, key)
    return item(found, lambda: wait_text(found, execution))


def answer(
    execution: ExecutionArgument,
    key: KeyArgument = None,
    value: Annotated[
        str | None,
        typer.Option("--value", metavar="JSON|@FILE|-", help="The answer. On a terminal you are asked for it."),
    ] = None,
    output: Output = Format.text,
) -> Answer:
    """Answer a wait, and set its execution going again. The first answer counts; a second one is a conflict."""
    return answer_wait(execution, key, value, output)


def answer_wait(execution: str, key: str | None, value: str | None, output: Format) -> Answer:
    from kitaru_cli.parsing import json_value

    client = open_client()
    if value is not None:
        given = json_value(value, option="--value")
    else:
        wait = find(client, execution, key)
        key, given = wait.key, asked(wait, execution, output)
    answered = client.executions.input(execution, wait=key, value=given, door="cli")
    return item(answered, lambda: answered_text(answered))


def abort_wait(execution: str, key: str | None) -> Answer:
    aborted = open_client().executions.abort_wait(execution, wait=key, door="cli")
    exec_id = short_id(aborted.exec_id or execution)
    return item(aborted, lambda: [f"{aborted.key} of {exec_id} is aborted: its flow gets KitaruWaitAborted"])


def asked(wait: Wait, execution: str, output: Format) -> object:
    """The answer of the person at the terminal.

    Raises:
        KitaruUsageError: nobody is there to ask.
    """
    from kitaru_cli.prompting import ask_for, can_ask
    from kitaru_registry.errors import KitaruUsageError

    if output is Format.json or not can_ask():
        raise KitaruUsageError(
            f"no --value, and no terminal to ask for {wait.key} on",
            hint=f"kitaru waits answer {execution} {wait.key} --value {example_answer(wait)}",
        )
    return ask_for(wait)


def find(client: KitaruClient, execution: str, key: str | None) -> Wait:
    """The wait of that key, or the only pending one.

    Raises:
        KitaruNotFoundError: it waits for nothing.
        KitaruUsageError: it waits for several things.
    """
    from kitaru_registry.errors import KitaruNotFoundError, KitaruUsageError

    if key is not None:
        return client.waits.get(execution, key)
    pending = client.executions.pending_waits(execution)
    if not pending:
        raise KitaruNotFoundError(f"execution {execution} waits for nothing", hint=f"kitaru executions get {execution}")
    if len(pending) > 1:
        keys = [wait.key for wait in pending]
        raise KitaruUsageError(
            f"execution {execution} waits for {', '.join(keys)}: say which",
            hint=f"kitaru waits answer {execution} {keys[0]}",
        )
    return pending[0]


def waits_text(waits: Sequence[Wait]) -> Sequence[Part]:
    if not waits:
        return [dim("Nothing waits for an answer.")]
    seen_from = now()
    expiring = any(wait.deadline for wait in waits)
    rows: list[tuple[str | Styled, ...]] = [
        (
            bold(short_id(wait.exec_id or "-")),
            wait.flow or "-",
            wait.key,
            first_line(wait.question or "-"),
            ago(wait.entered_at, seen_from),
            *([due(wait.deadline)] if expiring else []),
        )
        for wait in waits
    ]
    columns = ("execution", "flow", "wait", "question", "since", *(("until",) if expiring else ()))
    return [Table(columns, rows, wraps=frozenset({"flow", "question"}))]


def wait_text(wait: Wait, execution: str) -> Sequence[Part]:
    seen_from = now()
    facts = Facts(
        (
            ("wait", bold(wait.key)),
            ("of", f"{wait.flow or '-'} {wait.exec_id or execution}"),
            ("status", status(wait.status)),
            ("since", moment(wait.entered_at, seen_from)),
            *([("until", due(wait.deadline))] if wait.deadline else []),
            *([("context", value_line(wait.metadata))] if wait.metadata else []),
            *([("answer", value_line(wait.answer))] if wait.status == "answered" else []),
            *(
                [("answered", f"{moment(wait.answered_at, seen_from)} by {wait.answered_by}")]
                if wait.answered_at
                else []
            ),
        )
    )
    parts: list[Part] = [facts]
    if wait.question:
        parts += ["", wait.question]
    if wait.schema_:
        parts += ["", dim("schema"), indented(wait.schema_)]
    if wait.status == "pending":
        command_line = f"kitaru waits answer {short_id(wait.exec_id or execution)} {wait.key}"
        parts += ["", f"answer it: {command_line} --value {example_answer(wait)}"]
    return parts


def answered_text(wait: Wait) -> Sequence[Part]:
    exec_id = short_id(wait.exec_id or "")
    if wait.status == "early":
        return [
            f"{exec_id} has no wait {wait.name} yet: the answer {value_line(wait.answer)} is kept for the first one",
            dim(f"look at it: kitaru waits list --exec {exec_id}"),
        ]
    return [
        f"{wait.key} of {exec_id} is answered: {value_line(wait.answer)}",
        dim(f"it goes on; look at it: kitaru executions get {exec_id}"),
    ]
