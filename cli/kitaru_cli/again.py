"""`kitaru executions retry` and `replay`, and `kitaru diff`: executing again, and what came of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from kitaru_cli.again_text import diff_text, plan_notes, plan_text
from kitaru_cli.commands import LOOK, ExecutionArgument, Output, command, open_client
from kitaru_cli.execution_text import code_of
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
from kitaru_cli.output import Answer, Format, item
from kitaru_cli.running import (
    DetachOption,
    FromOption,
    OnlyRecorded,
    OverridesOption,
    TimeoutOption,
    TrustPickle,
    detached,
    in_the_runner,
)
from kitaru_cli.tables import Part, dim
from kitaru_cli.words import short_id, version_of

if TYPE_CHECKING:
    from kitaru import FlowHandle, KitaruClient
    from kitaru_registry.executions.views import RetryPlan
    from kitaru_registry.models import Execution

WithEdits = Annotated[bool, typer.Option("--with-edits", help="Although source files have changed since it began.")]


def add_to(app: typer.Typer) -> None:
    command(
        app,
        "diff",
        examples=["kitaru diff 3f2a91c4 5b7a3f2a", "kitaru diff 3f2a91c4 5b7a3f2a -o json"],
        section=LOOK,
    )(diff)


def add_to_executions(executions: typer.Typer) -> None:
    command(
        executions,
        "executions.retry",
        examples=[
            "kitaru executions retry 3f2a91c4",
            "kitaru executions retry --flow review_flow --since 2h --dry-run",
        ],
    )(retry)
    command(
        executions,
        "executions.replay",
        examples=[
            "kitaru executions replay 3f2a91c4 --from draft --dry-run",
            'kitaru executions replay 3f2a91c4 --overrides \'{"checkpoint.research": "notes"}\'',
            "kitaru executions replay 3f2a91c4 --on v4 --only-recorded",
            "kitaru executions replay --flow review_flow --status failed --from failed --on v4 --yes",
        ],
    )(replay)


def retry(
    execution: ManyArgument = None,
    flow: FlowQuery = None,
    status: StatusQuery = None,
    version: VersionQuery = None,
    since: SinceQuery = None,
    tag: TagQuery = None,
    where: WhereQuery = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    with_edits: WithEdits = False,
    timeout: TimeoutOption = None,
    detach: DetachOption = False,
    output: Output = Format.text,
) -> Answer:
    """Let a failed execution go on at what failed, on the same code, and wait for its result.

    What is recorded is kept, failures that the flow caught too. Without EXECUTION: all that the options find, without
    waiting for them.
    """
    asked = Asked(execution, flow, status, version, since, tag, where)
    one = asked.one("retry")
    if one is None:
        options = {"with_edits": with_edits}
        return to_all("retry", asked, options, dry_run=dry_run, yes=yes, output=output, timeout=timeout)
    from kitaru.continuing import require_files

    client = open_client()
    plan = client.executions.plan_retry(one)
    found = client.executions.brief(plan.exec_id)
    require_files(client, found, with_edits=with_edits)
    words = retry_words(found, plan)
    if dry_run:
        return item(plan, lambda: plan_text(plan), notes=lambda: [dim(f"would: {words}; nothing was made")])
    handle = client.executions.retry(found.exec_id, with_edits=with_edits)
    return saying(words, followed(client, handle, detach=detach, timeout=timeout, output=output))


def retry_words(execution: Execution, plan: RetryPlan) -> str:
    """That the code is the same, and what executes again."""
    from kitaru_registry.executions.replaying import listed

    code = code_of(execution) if execution.version is None else version_of(execution.version, None)
    keys = [call.key for call in plan.calls if call.does == "executes"]
    again = listed(keys) if keys else "the flow's own code, over what is recorded"
    return f"{short_id(execution.exec_id)} goes on with the same code ({code}); executes again: {again}"


def replay(
    execution: ManyArgument = None,
    from_: FromOption = None,
    overrides: OverridesOption = None,
    input: Annotated[
        str | None,
        typer.Option("--input", "-i", "--args", metavar="JSON|@FILE|-", help="New inputs, over the recorded ones."),
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="VERSION", help="Execute on this version; by default its own.")
    ] = None,
    only_recorded: OnlyRecorded = False,
    flow: FlowQuery = None,
    status: StatusQuery = None,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="VERSION", help="With EXECUTION the same as --on; else all of this version."),
    ] = None,
    since: SinceQuery = None,
    tag: TagQuery = None,
    where: WhereQuery = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    with_edits: WithEdits = False,
    trust_pickle: TrustPickle = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="KEY", help="The same key and replay give the same execution."),
    ] = None,
    timeout: TimeoutOption = None,
    detach: DetachOption = False,
    output: Output = Format.text,
) -> Answer:
    """Make a new execution that reuses what another one recorded, up to a call, and wait for its result.

    Without EXECUTION: of all that the options find, without waiting for them. To debug one in your own files, with
    breakpoints: kitaru run path.py:flow --replay EXECUTION
    """
    from kitaru.replaying import Request, plan_of, prepare
    from kitaru.replaying import replay as make
    from kitaru_cli.parsing import json_inputs, json_overrides

    asked = Asked(execution, flow, status, version if execution is None else None, since, tag, where)
    one = asked.one("replay")
    request = Request(
        from_, json_overrides(overrides), json_inputs(input), on if one is None else same(on, version), only_recorded,
        idempotency_key, trust_pickle, with_edits,
    )  # fmt: skip
    if one is None:
        return to_all("replay", asked, vars(request), dry_run=dry_run, yes=yes, output=output, timeout=timeout)
    client = open_client()
    if dry_run:
        plan = plan_of(prepare(client, one, request))
        return item(plan, lambda: plan_text(plan), notes=lambda: plan_notes(plan))
    handle = make(client, one, request)
    said = f"{short_id(handle.exec_id)} is a replay of {short_id(client.executions.get(one).exec_id)}"
    return saying(said, followed(client, handle, detach=detach, timeout=timeout, output=output))


def same(on: str | None, version: str | None) -> str | None:
    from kitaru_registry.deployments.refs import parse_version
    from kitaru_registry.errors import KitaruUsageError

    if on is not None and version is not None and parse_version(on) != parse_version(version):
        raise KitaruUsageError(f"both --on {on} and --version {version} are given", hint="give one of them")
    return on or version


def followed(
    client: KitaruClient, handle: FlowHandle, *, detach: bool, timeout: float | None, output: Format
) -> Answer:
    return detached(client, handle) if detach else in_the_runner(client, handle, timeout=timeout, output=output)


def saying(line: str, answer: Answer) -> Answer:
    """The answer, with a line before its notes."""

    def notes() -> list[Part]:
        return [dim(line), *answer.notes()]

    return replace(answer, notes=notes)


def diff(
    a: ExecutionArgument,
    b: Annotated[str, typer.Argument(metavar="OTHER", help="The one that is compared with it.")],
    all_: Annotated[bool, typer.Option("--all", "-a", help="Show the calls that are the same too.")] = False,
    output: Output = Format.text,
) -> Answer:
    """Compare two executions: their calls, values, inputs, results and times, and the code of their versions."""
    found = open_client().executions.diff(a, b)
    return item(found, lambda: diff_text(found, show_same=all_))
