"""`kitaru executions`: look at executions, answer, resume and cancel them. again.py has retry and replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kitaru_cli.again import add_to_executions
from kitaru_cli.commands import LOOK, ExecutionArgument, Output, Reason, command, group, open_client
from kitaru_cli.deleting import delete
from kitaru_cli.execution_text import execution_text, executions_text
from kitaru_cli.logs import logs
from kitaru_cli.many import (
    Asked,
    DryRun,
    FlowQuery,
    ManyArgument,
    SinceQuery,
    StatusQuery,
    TagQuery,
    VersionQuery,
    WhereQuery,
    Yes,
    to_all,
)
from kitaru_cli.output import Answer, Format, at_most, item, items
from kitaru_cli.running import DetachOption, TimeoutOption, detached, in_the_runner
from kitaru_cli.words import now, short_id

STATUSES = ("pending", "running", "waiting", "completed", "failed", "cancelled")


def add_to(app: typer.Typer) -> None:
    executions = group(
        app,
        "executions",
        "List, show, answer, resume, retry, replay, cancel and delete executions.",
        section=LOOK,
    )
    command(
        executions,
        "executions.list",
        examples=[
            "kitaru executions list --status waiting",
            "kitaru executions list --flow review_flow --since 2h --where topic=agents",
        ],
    )(list_executions)
    command(executions, "executions.get", examples=["kitaru executions get 3f2a91c4"])(get)
    command(
        executions,
        "executions.logs",
        examples=[
            "kitaru executions logs 3f2a91c4 --follow",
            "kitaru executions logs 3f2a91c4 --checkpoint draft -v",
        ],
    )(logs)
    command(
        executions,
        "executions.input",
        examples=["kitaru executions input 3f2a91c4 --value true", "kitaru executions input 3f2a91c4 --abort"],
    )(give_input)
    command(
        executions,
        "executions.resume",
        examples=[
            "kitaru executions resume 3f2a91c4",
            "kitaru executions resume 3f2a91c4 --accept summarize --reason 'summaries were added'",
        ],
    )(resume)
    add_to_executions(executions)
    command(
        executions,
        "executions.cancel",
        examples=[
            "kitaru executions cancel 3f2a91c4 --reason 'wrong topic'",
            "kitaru executions cancel --flow review_flow --version v4 --status waiting --dry-run",
        ],
    )(cancel)
    command(
        executions,
        "executions.delete",
        examples=[
            "kitaru executions delete 3f2a91c4",
            "kitaru executions delete --flow review_flow --before 90d --dry-run",
        ],
    )(delete)


def list_executions(
    flow: Annotated[str | None, typer.Option("--flow", metavar="FLOW", help="Of this flow only.")] = None,
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help=f"One of {', '.join(STATUSES)}.")
    ] = None,
    version: Annotated[str | None, typer.Option("--version", metavar="VERSION", help="Of this version only.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Created since: 30m, 2h, 7d, 2026-01-31.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="KEY=VALUE", help="With this input, or this logged value.")
    ] = None,
    parent: Annotated[
        str | None, typer.Option("--parent", metavar="EXECUTION", help="Only the child executions of this one.")
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Invoked by this tag only.")] = None,
    replay_of: Annotated[
        str | None, typer.Option("--replay-of", metavar="EXECUTION", help="Replays of this execution only.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many.")] = 50,
    page: Annotated[int | None, typer.Option("--page", metavar="N", min=1, help="Which page, from 1.")] = None,
    size: Annotated[int, typer.Option("--size", metavar="N", min=1, help="How many on a page.")] = 20,
    output: Output = Format.text,
) -> Answer:
    """List executions, the newest first."""
    from kitaru_cli.parsing import filters, one_of, since_moment

    found = open_client().executions.list(
        flow=flow,
        status=one_of(status, STATUSES, option="--status"),
        version=version,
        since=since_moment(since, now()),
        where=filters(where),
        parent=parent,
        tag=tag,
        replay_of=replay_of,
        limit=limit,
        page=page,
        size=size,
    )
    most, option = (limit, "--limit N") if page is None else (size, f"--page {page + 1}")
    return items(found, lambda: executions_text(found), notes=lambda: at_most(len(found), most, option))


def get(execution: ExecutionArgument, output: Output = Format.text) -> Answer:
    """Show one execution: its inputs, checkpoints, waits, result or error."""
    found = open_client().executions.get(execution)
    return item(found, lambda: execution_text(found))


def give_input(
    execution: ExecutionArgument,
    value: Annotated[
        str | None,
        typer.Option("--value", metavar="JSON|@FILE|-", help="The answer. On a terminal you are asked for it."),
    ] = None,
    wait: Annotated[
        str | None, typer.Option("--wait", metavar="KEY", help="Which wait; by default the only pending one.")
    ] = None,
    abort: Annotated[
        bool, typer.Option("--abort", help="End the wait without an answer: the flow gets KitaruWaitAborted.")
    ] = False,
    output: Output = Format.text,
) -> Answer:
    """Answer what an execution waits for, and set it going again.

    An answer that names a wait which is not open yet is kept for it.
    """
    from kitaru_cli.waits import abort_wait, answer_wait

    if abort and value is not None:
        raise typer.BadParameter("either --value or --abort", param_hint="--abort")
    return abort_wait(execution, wait) if abort else answer_wait(execution, wait, value, output)


def resume(
    execution: ExecutionArgument,
    with_edits: Annotated[
        bool, typer.Option("--with-edits", help="Go on although source files have changed since it began.")
    ] = False,
    accept: Annotated[
        str | None,
        typer.Option("--accept", metavar="KEY", help="Of one that diverged: go on with this call, which was found."),
    ] = None,
    reason: Reason = None,
    timeout: TimeoutOption = None,
    detach: DetachOption = False,
    output: Output = Format.text,
) -> Answer:
    """Set an execution going again whose process is gone, and wait for its result. What is recorded is not repeated."""
    from kitaru.early import runner_on_hold

    # The runner takes as long to start as this command does; and what it has, cannot be resumed.
    with runner_on_hold(Path.cwd()):
        client = open_client()
        handle = client.executions.resume(execution, with_edits=with_edits, accept=accept, reason=reason)
    return detached(client, handle) if detach else in_the_runner(client, handle, timeout=timeout, output=output)


def cancel(
    execution: ManyArgument = None,
    flow: FlowQuery = None,
    status: StatusQuery = None,
    version: VersionQuery = None,
    since: SinceQuery = None,
    tag: TagQuery = None,
    where: WhereQuery = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: Output = Format.text,
) -> Answer:
    """End an execution; what it recorded stays. Without EXECUTION: all open ones that the options find."""
    asked = Asked(execution, flow, status, version, since, tag, where)
    one = asked.one("cancel")
    if one is None:
        return to_all("cancel", asked, {"reason": reason}, dry_run=dry_run, yes=yes, output=output)
    executions = open_client().executions
    found = executions.get(one) if dry_run else executions.cancel(one, reason=reason)
    said = "is cancelled" if found.status == "cancelled" else f"is {found.status}, and will be cancelled"
    words = f"is {found.status}, and would be cancelled" if dry_run else said
    return item(found, lambda: [f"{short_id(found.exec_id)} of {found.flow} {words}"])
