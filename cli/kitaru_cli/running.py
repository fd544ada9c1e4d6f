"""`kitaru run` and `kitaru invoke`: start an execution, and wait for what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kitaru_cli.commands import BUILD, Output, command, open_client
from kitaru_cli.execution_text import exit_code, outcome_notes, outcome_parts
from kitaru_cli.output import Answer, Format, item, progress_for, stdout_kept_for_json
from kitaru_cli.tables import Part, dim
from kitaru_cli.words import short_id

if TYPE_CHECKING:
    from kitaru import FlowHandle, KitaruClient
    from kitaru_registry.models import Execution

INTERRUPTED = 130

InputOption = Annotated[
    str | None,
    typer.Option("--input", "-i", metavar="JSON|@FILE|-", help="The flow's parameters, as a JSON object."),
]
TimeoutOption = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait for the result.")
]
DetachOption = Annotated[bool, typer.Option("--detach", "-d", help="Do not wait for the result.")]

FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="KEY|NAME|failed",
        help="The first call that executes again; all recorded before it is reused. failed: what failed first.",
    ),
]
OverridesOption = Annotated[
    str | None,
    typer.Option(
        "--overrides",
        metavar="JSON|@FILE|-",
        help='Outcomes in place of the recorded ones: {"checkpoint.NAME": value, "wait.NAME": answer}.',
    ),
]
OnlyRecorded = Annotated[bool, typer.Option("--only-recorded", help="Stop before the first call that is not recorded.")]
TrustPickle = Annotated[
    bool, typer.Option("--trust-pickle", help="Read pickled values of other code from a home that is not yours.")
]


def add_to(app: typer.Typer) -> None:
    command(
        app,
        "run",
        examples=[
            'kitaru run flows/review.py:review_flow --input \'{"topic": "agents"}\'',
            "kitaru run flows/review.py:review_flow --replay 3f2a91c4 --from draft",
        ],
        section=BUILD,
    )(run)
    command(
        app,
        "invoke",
        examples=[
            'kitaru invoke review_flow@stable --input \'{"topic": "agents"}\'',
            "kitaru invoke review_flow --version 3 --input @inputs.json --detach -o json",
        ],
        section=BUILD,
    )(invoke)


def run(
    target: Annotated[str, typer.Argument(metavar="PATH.py:FLOW", help="The file and the flow in it.")],
    input: InputOption = None,
    replay: Annotated[
        str | None,
        typer.Option("--replay", metavar="EXECUTION", help="Against what this execution recorded, deployed or not."),
    ] = None,
    from_: FromOption = None,
    overrides: OverridesOption = None,
    only_recorded: OnlyRecorded = False,
    trust_pickle: TrustPickle = False,
    output: Output = Format.text,
) -> Answer:
    """Run a flow from its source file, here and now. Every checkpoint is recorded: Ctrl-C, and it can be resumed.

    With --replay what another execution recorded is reused, and your files execute the rest in this process, where
    breakpoints work.
    """
    from pathlib import Path

    from kitaru.working_tree import replay_target, run_target
    from kitaru_cli.parsing import json_inputs, json_overrides
    from kitaru_registry.collecting import collect_as_usual
    from kitaru_registry.errors import KitaruUsageError
    from kitaru_registry.home import default_home

    collect_as_usual()
    inputs, given = json_inputs(input), json_overrides(overrides)
    if replay is None and (from_ is not None or given or only_recorded):
        raise KitaruUsageError("--from, --overrides and --only-recorded belong to a replay", hint="--replay EXECUTION")

    def start() -> FlowHandle:
        where = {"home": default_home(), "cwd": Path.cwd()}
        if replay is None:
            return run_target(target, inputs, **where)  # type: ignore[arg-type]  # each has its type
        from kitaru.replaying import Request

        request = Request(from_, given, inputs, only_recorded=only_recorded, trust_pickle=trust_pickle)
        return replay_target(target, replay, request, **where)  # type: ignore[arg-type]  # each has its type

    with stdout_kept_for_json(output):
        return in_this_process(start, output)


def in_this_process(start: Callable[[], FlowHandle], output: Format) -> Answer:
    """Wait for a source execution that this process executes; on a terminal, ask for the answers that it waits for.

    Where it has not ended, the flow stands in its thread: the process is to end without waiting for it.
    """
    from kitaru.running import leave_all
    from kitaru_cli.prompting import answer_all, can_ask

    try:
        handle = start()
        execution = handle.until_settled()
        while execution.status == "waiting" and output is Format.text and can_ask():
            answer_all(open_client(), execution)
            execution = handle.until_settled()
    except KeyboardInterrupt:
        # The flow's thread may be at work before `start` has returned.
        left = leave_all("stopped by Ctrl-C")
        if not left:
            raise
        return interrupted(
            open_client().executions.get(left[0]),
            f"stopped; go on with: kitaru executions resume {short_id(left[0])}",
        )
    return settled(execution)


def invoke(
    flow: Annotated[
        str,
        typer.Argument(metavar="[PROJECT/]FLOW[@TAG|@v3|@sha256:...]", help="What to run; by default FLOW@default."),
    ],
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="The same as FLOW@TAG.")] = None,
    version: Annotated[str | None, typer.Option("--version", metavar="VERSION", help="The same as FLOW@v3.")] = None,
    input: InputOption = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="KEY", help="The same key and input give the same execution."),
    ] = None,
    timeout: TimeoutOption = None,
    detach: DetachOption = False,
    output: Output = Format.text,
) -> Answer:
    """Execute a deployed flow, and wait for its result. Ctrl-C leaves it running.

    Exit code 0: completed. 1: failed or cancelled. 6: it waits for input, or the time is over.
    """
    from kitaru_cli.parsing import json_inputs

    inputs = json_inputs(input)
    runner_at_once()
    client = open_client()
    handle = client.deployments.invoke(
        flow=flow, inputs=inputs, version=version, tag=tag, idempotency_key=idempotency_key
    )
    return detached(client, handle) if detach else in_the_runner(client, handle, timeout=timeout, output=output)


def runner_at_once() -> None:
    """The runner takes as long to start as this command does: let it do so meanwhile."""
    from pathlib import Path

    from kitaru.early import start_runner_early

    start_runner_early(Path.cwd())


def in_the_runner(client: KitaruClient, handle: FlowHandle, *, timeout: float | None, output: Format) -> Answer:
    """Wait for an execution that a runner has; Ctrl-C ends the waiting alone."""
    try:
        with progress_for(output) as progress:
            progress(f"{short_id(handle.exec_id)} is executing; Ctrl-C leaves it running")
            if output is Format.json:
                build_serializer()
            return settled(handle.until_settled(timeout))
    except KeyboardInterrupt:
        execution = client.executions.get(handle.exec_id)
        return interrupted(execution, f"it goes on; look at it: kitaru executions get {short_id(handle.exec_id)}")


def build_serializer() -> None:
    """Of what will be printed: that takes 25 ms, which nobody waits for while the runner begins."""
    from kitaru.bound import BoundExecution
    from kitaru_registry.models import CheckpointCall

    BoundExecution.model_rebuild()
    CheckpointCall.model_rebuild()


def detached(client: KitaruClient, handle: FlowHandle) -> Answer:
    execution = client.executions.get(handle.exec_id)
    return item(execution, lambda: [execution.exec_id], notes=lambda: outcome_notes(execution))


def settled(execution: Execution) -> Answer:
    return item(
        execution,
        lambda: outcome_parts(execution),
        notes=lambda: outcome_notes(execution),
        exit_code=exit_code(execution),
    )


def interrupted(execution: Execution, hint: str) -> Answer:
    def notes() -> Sequence[Part]:
        return ["", dim(f"{execution.exec_id}: {hint}")]

    return item(execution, lambda: (), notes=notes, exit_code=INTERRUPTED)
