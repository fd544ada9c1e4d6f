"""`kitaru status`, `kitaru doctor` and `kitaru runner`: how this home is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated

import typer

from kitaru_cli.commands import MACHINE, Output, answering, command, group, open_client
from kitaru_cli.output import Answer, Format, item, items
from kitaru_cli.tables import Facts, Part, Styled, Table, bold, dim, show
from kitaru_cli.versions import flows_text
from kitaru_cli.words import ago, counted, now, short_id

if TYPE_CHECKING:
    from kitaru_registry.models import DoctorCheck, HomeStatus, RunnerState

ABOUT_RUNNER = """Be a runner: execute what is pending, until Ctrl-C.

One starts by itself in the background when there is work, and ends when there is none; see also the commands.
"""
NOT_RUNNING = "not running; it starts by itself when there is work"


def add_to(app: typer.Typer) -> None:
    command(app, "status", examples=["kitaru status", "kitaru status -o json"], section=MACHINE)(status)
    command(app, "doctor", examples=["kitaru doctor"], section=MACHINE)(doctor)
    command(app, "migrate", examples=["kitaru migrate"], section=MACHINE)(migrate)
    runner = group(
        app,
        "runner",
        ABOUT_RUNNER,
        section=MACHINE,
        alone=runner_alone,
        examples=["kitaru runner", "kitaru runner list -o json", "kitaru runner stop"],
    )
    command(runner, "runner.list", examples=["kitaru runner list"])(list_runners)
    command(runner, "runner.start", examples=["kitaru runner start"])(start)
    command(runner, "runner.stop", examples=["kitaru runner stop"])(stop)
    command(runner, "runner.drain", examples=["kitaru runner drain", "kitaru runner drain --timeout 600"])(drain)


def status(output: Output = Format.text) -> Answer:
    """Show flows, tags, and what runs, waits or is overdue."""
    found = open_client().status()
    return item(found, lambda: status_text(found))


def doctor(output: Output = Format.text) -> Answer:
    """Check that this machine can run flows. Exit code 1 where something is amiss."""
    checks = open_client().doctor()
    failed = any(not check.ok for check in checks)
    return items(checks, lambda: doctor_text(checks), exit_code=1 if failed else 0)


def migrate(output: Output = Format.text) -> Answer:
    """Make the record in the database that kitaru.toml names, or bring it to this release's schema.

    A record in the home's own file is brought up to date by whatever command opens it.
    """
    done = open_client().migrate()
    what = "Made the record" if done.created else "The record is up to date"
    return item(done, lambda: [f"{what} in {done.place} (schema {done.schema_version})"])


def runner_alone(context: typer.Context, output: Output = Format.text) -> None:
    if context.invoked_subcommand is None:
        answering("runner", be_runner)(output=output)


def be_runner(output: Format) -> Answer:
    client = open_client()
    if output is Format.text:
        show([dim(f"executing what is pending in {client.home.root}; Ctrl-C stops")], sys.stderr)
    client.runner.run()
    state = client.runner.state()
    return item(state, lambda: ["stopped"])


def list_runners(output: Output = Format.text) -> Answer:
    """List the runners of this home, and what they execute."""
    found = open_client().runner.list()
    return items(found, lambda: runners_text(found))


def start(output: Output = Format.text) -> Answer:
    """Start this home's runner in the background, if it does not run."""
    state = open_client().runner.start()
    return item(state, lambda: runners_text([state]))


def stop(output: Output = Format.text) -> Answer:
    """Stop this home's runner. What it executes goes on when there is a runner again."""
    stopped = open_client().runner.stop()
    return item(stopped, lambda: [f"Stopped the runner (process {stopped.pid})"])


def drain(
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait; it drains on after that."),
    ] = None,
    output: Output = Format.text,
) -> Answer:
    """Stop this home's runner when the checkpoints in flight have ended. Nothing new is begun."""
    drained = open_client().runner.drain(timeout=timeout)
    return item(drained, lambda: [f"Drained the runner (process {drained.pid})"])


def status_text(found: HomeStatus) -> Sequence[Part]:
    counts = (
        ("running", found.running - found.gone, "cyan"),
        *([("running (process gone)", found.gone, "red")] if found.gone else []),
        ("waiting", found.waiting, "yellow"),
        ("pending", found.pending, "blue"),
        ("overdue", found.overdue, "red"),
    )
    facts = Facts(
        (
            ("home", found.home),
            ("project", found.project),
            ("runner", runner_line(found.runner)),
            *((word, Styled(str(count), style if count else "")) for word, count, style in counts),
        )
    )
    parts: list[Part] = [facts, "", *flows_text(found.flows)]
    if found.waiting:
        parts += ["", dim("answer what waits: kitaru waits list")]
    if found.warned:
        said = f"{counted(found.warned, 'execution')} completed with warnings in the last 24 hours"
        parts += ["", Styled(f"{said}: kitaru executions list", "yellow")]
    return parts


def runner_line(state: RunnerState) -> str:
    if not state.running:
        return NOT_RUNNING
    return f"process {state.pid}, {counted(len(state.executions), 'execution')}"


def runners_text(states: Sequence[RunnerState]) -> Sequence[Part]:
    if not states:
        return [dim(f"The runner is {NOT_RUNNING}.")]
    seen_from = now()
    rows = [
        (
            bold(str(state.pid)),
            ago(state.started_at, seen_from),
            state.version or "-",
            "background" if state.local else "extra",
            executed_text(state),
        )
        for state in states
    ]
    lacking: list[Part] = [
        dim(f"process {state.pid} lacks {', '.join(state.lacks)}, but for what commands hand to it")
        for state in states
        if state.lacks
    ]
    table = Table(("process", "started", "version", "kind", "executes"), rows, wraps=frozenset({"executes"}))
    return [table, *lacking]


def executed_text(state: RunnerState) -> str:
    """`3f2a91c4 in process 4712`, or nothing."""
    pairs = zip_longest(state.executions, state.children)
    return ", ".join(f"{short_id(exec_id)} in process {child or '?'}" for exec_id, child in pairs if exec_id) or "-"


def doctor_text(checks: Sequence[DoctorCheck]) -> Sequence[Part]:
    parts: list[Part] = []
    for check in checks:
        mark = "ok  " if check.ok else "FAIL"
        parts.append(Styled(f"{mark}  {check.name}: {check.message}", "green" if check.ok else "red"))
        if check.hint and not check.ok:
            parts.append(f"      {check.hint}")
    return parts
