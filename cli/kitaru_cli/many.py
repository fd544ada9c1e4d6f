"""`kitaru executions cancel|retry|replay` without an execution: the same to all that a query finds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kitaru_cli.commands import open_client
from kitaru_cli.execution_text import executions_text
from kitaru_cli.output import Answer, Format, items, progress_for
from kitaru_cli.tables import Part, Styled, Table, dim, show, status
from kitaru_cli.words import counted, now, short_id

if TYPE_CHECKING:
    from kitaru.bulk import Action, Query
    from kitaru_registry.executions.views import BulkResult
    from kitaru_registry.models import Execution

ManyArgument = Annotated[
    str | None,
    typer.Argument(metavar="[EXECUTION]", help="Its id, or enough of it. Without one: all that the options find."),
]
FlowQuery = Annotated[str | None, typer.Option("--flow", metavar="FLOW", help="All of this flow.")]
StatusQuery = Annotated[str | None, typer.Option("--status", metavar="STATUS", help="All with this status.")]
VersionQuery = Annotated[str | None, typer.Option("--version", metavar="VERSION", help="All of this version.")]
SinceQuery = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="All created since: 30m, 2h, 7d, 2026-01-31.")
]
TagQuery = Annotated[str | None, typer.Option("--tag", metavar="TAG", help="All that were invoked by this tag.")]
WhereQuery = Annotated[
    list[str] | None, typer.Option("--where", metavar="KEY=VALUE", help="All with this input, or this logged value.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")]


@dataclass(frozen=True)
class Asked:
    """The options of a command that takes one execution, or a query."""

    execution: str | None
    flow: str | None = None
    status: str | None = None
    version: str | None = None
    since: str | None = None
    tag: str | None = None
    where: list[str] | None = None

    @property
    def said(self) -> list[str]:
        """The options of the query that were given."""
        return [f"--{name}" for name, value in vars(self).items() if name != "execution" and value]

    def one(self, action: Action) -> str | None:
        """The one execution; None: all that the query finds.

        Raises:
            KitaruUsageError: both are given, or neither.
        """
        from kitaru_registry.errors import KitaruUsageError

        if self.execution is not None and self.said:
            raise KitaruUsageError(
                f"{self.execution} is one execution, and {', '.join(self.said)} finds many", hint="give one of the two"
            )
        if self.execution is None and not self.said:
            raise KitaruUsageError(
                f"{action} which execution?",
                hint=f"kitaru executions {action} EXECUTION, or all that --flow, --version, --status, --since, --tag "
                "and --where find",
            )
        return self.execution

    def query(self) -> Query:
        from kitaru.bulk import Query
        from kitaru_cli.parsing import filters, since_moment

        return Query(
            flow=self.flow, version=self.version, status=self.status, since=since_moment(self.since, now()),
            tag=self.tag, where=filters(self.where),
        )  # fmt: skip


def to_all(
    action: Action,
    asked: Asked,
    options: Mapping[str, Any],
    *,
    dry_run: bool,
    yes: bool,
    output: Format,
    timeout: float | None = None,
) -> Answer:
    """Do it to all that the query finds: shown first, and asked about where somebody can answer.

    Raises:
        KitaruUsageError: a timeout; or as `Executions.bulk`.
    """
    from kitaru.bulk import act_of, each, find
    from kitaru_registry.errors import KitaruUsageError

    if timeout is not None:
        raise KitaruUsageError("--timeout is for one execution: many are not waited for", hint="leave it out")
    client = open_client()
    act = act_of(client, action, options)
    found = find(client, action, asked.query(), options=options)
    if dry_run or not found:
        said = f"would {action} {counted(len(found), 'execution')}" if found else f"no execution to {action} is found"
        return items(found, lambda: executions_text(found) if found else (), notes=lambda: [dim(said)])
    agree(action, found, yes=yes, output=output)
    with bar(action, len(found), output) as advance:
        results = each(client, action, found, act=act, done=advance)
    failed = [result for result in results if not result.ok]
    return items(
        results,
        lambda: results_text(results),
        notes=lambda: [dim(f"{len(results) - len(failed)} done, {len(failed)} failed")],
        exit_code=1 if failed else 0,
    )


def agree(action: Action, found: Sequence[Execution], *, yes: bool, output: Format) -> None:
    """
    Raises:
        KitaruUsageError: nobody can be asked.
        typer.Abort: they said no.
    """
    from kitaru_cli.prompting import can_ask
    from kitaru_registry.errors import KitaruUsageError

    if yes:
        return
    if output is Format.json or not can_ask():
        raise KitaruUsageError(
            f"this would {action} {counted(len(found), 'execution')}",
            hint="look at them first: --dry-run; then do it: --yes",
        )
    show(executions_text(found), sys.stderr)
    typer.confirm(f"{action} {counted(len(found), 'execution')}?", abort=True, err=True)


@contextmanager
def bar(action: str, total: int, output: Format) -> Iterator[Callable[[BulkResult], None]]:
    """A progress bar on a terminal; elsewhere now and then a line; nothing for JSON readers."""
    if output is Format.text and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(action, total=total)
            yield lambda _: progress.advance(task)
        return
    done = 0
    with progress_for(output) as say:

        def advance(_: BulkResult) -> None:
            nonlocal done
            done += 1
            say(f"{action}: {done} of {total}")

        yield advance


def results_text(results: Sequence[BulkResult]) -> Sequence[Part]:
    rows = [
        (
            short_id(result.exec_id),
            result.flow,
            status(result.status) if result.ok else Styled("refused", "red"),
            short_id(result.new_exec_id) if result.new_exec_id else "",
            result.message or "",
        )
        for result in results
    ]
    return [Table(("execution", "flow", "status", "new", ""), rows, wraps=frozenset({"flow", ""}))]
