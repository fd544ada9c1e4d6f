"""`kitaru executions delete` and `kitaru gc`: what is to be gone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kitaru_cli.commands import MACHINE, Output, command, open_client
from kitaru_cli.output import Answer, Format, item
from kitaru_cli.tables import Part, dim
from kitaru_cli.words import counted, now, short_id, size

if TYPE_CHECKING:
    from kitaru import KitaruClient
    from kitaru_registry.models import Deleted

ENDS = ("completed", "failed", "cancelled")


def add_to(app: typer.Typer) -> None:
    command(app, "gc", examples=["kitaru gc"], section=MACHINE)(gc)


def delete(
    executions: Annotated[
        list[str] | None, typer.Argument(metavar="[EXECUTION]...", help="Which; or choose them by the options.")
    ] = None,
    flow: Annotated[str | None, typer.Option("--flow", metavar="FLOW", help="Those of this flow.")] = None,
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help=f"Those that have {', '.join(ENDS)}.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Those that ended since: 2h, 7d, 2026-01-31.")
    ] = None,
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="TIME", help="Those that ended before: 90d, 2026-01-31."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Output = Format.text,
) -> Answer:
    """Delete what ended executions have left: inputs, values, results, answers, output. That they were stays known."""
    client = open_client()
    chosen = choose(client, executions or [], flow=flow, status=status, since=since, before=before)
    if dry_run or not chosen:
        said = f"{counted(len(chosen), 'execution')} would be deleted" if chosen else "Nothing to delete."
        return item(
            {"exec_ids": list(chosen), "dry_run": True}, lambda: [*(short_id(i) for i in chosen), dim(said)]
        )  # fmt: skip
    confirm(f"Delete what {counted(len(chosen), 'execution')} left? It cannot be restored", yes=yes)
    # Those that were named go together or not at all; of those that were found, what can go.
    delete_them = client.executions.delete if executions else client.executions.delete_each
    deleted = delete_them(*chosen)
    return item(deleted, lambda: deleted_text(deleted, counted(len(deleted.exec_ids), "execution")))


def choose(
    client: KitaruClient, named: Sequence[str], *, flow: str | None, status: str | None, since: str | None,
    before: str | None,
) -> Sequence[str]:  # fmt: skip
    from kitaru_cli.parsing import moment_of, one_of, since_moment
    from kitaru_registry.errors import KitaruUsageError

    by_query = any(option is not None for option in (flow, status, since, before))
    if bool(named) == by_query:
        raise KitaruUsageError(
            "say which executions: by their ids, or by --flow, --status, --since, --before",
            hint="kitaru executions delete --flow review_flow --before 90d --dry-run",
        )
    if named:
        return client.executions.undeleted(*named)
    one_of(status, ENDS, option="--status")
    seen_from = now()
    return client.executions.deletable(
        flow=flow, status=status, since=since_moment(since, seen_from),
        before=moment_of(before, seen_from, option="--before"),
    )  # fmt: skip


def confirm(question: str, *, yes: bool) -> None:
    """
    Raises:
        KitaruUsageError: nobody is there to ask.
        Abort: the answer is no.
    """
    from kitaru_cli.prompting import can_ask
    from kitaru_registry.errors import KitaruUsageError

    if yes:
        return
    if not can_ask():
        raise KitaruUsageError("nobody is there to be asked", hint="add --yes; --dry-run shows what would be deleted")
    sys.stdout.flush()
    typer.confirm(question, abort=True, err=True)


def gc(output: Output = Format.text) -> Answer:
    """Delete what [retention] lets go, and files of values that nothing has named for a day."""
    deleted = open_client().gc()
    return item(deleted, lambda: deleted_text(deleted, counted(deleted.expired, "expired execution")))


def deleted_text(deleted: Deleted, what: str) -> Sequence[Part]:
    files = f"{counted(deleted.values, 'file')} of values, {size(deleted.bytes)}"
    return [f"Deleted {what}; {files}", *(dim(f"left: {line}") for line in deleted.left)]
