"""`kitaru status`, `kitaru doctor` and `kitaru runner`: how this home is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from kitaru_cli.commands import MACHINE, Output, answering, command, group, open_client
from kitaru_cli.output import Answer, Format, item, items
from kitaru_cli.tables import Facts, Part, Styled, bold, dim
from kitaru_cli.versions import flows_text
from kitaru_cli.words import counted, moment, now, short_id

if TYPE_CHECKING:
    from kitaru_registry.models import DoctorCheck, HomeStatus, RunnerState

NOT_RUNNING = "not running; it starts by itself when there is work"


def add_to(app: typer.Typer) -> None:
    command(app, "status", examples=["kitaru status", "kitaru status -o json"], section=MACHINE)(status)
    command(app, "doctor", examples=["kitaru doctor"], section=MACHINE)(doctor)
    runner = group(
        app,
        "runner",
        "Show, start or stop what executes pending work. It starts and ends by itself.",
        section=MACHINE,
        alone=runner_alone,
        examples=["kitaru runner", "kitaru runner stop"],
    )
    command(runner, "runner.list", examples=["kitaru runner list"])(list_runners)
    command(runner, "runner.start", examples=["kitaru runner start"])(start)
    command(runner, "runner.stop", examples=["kitaru runner stop"])(stop)


def status(output: Output = Format.text) -> Answer:
    """Show flows, tags, and what runs, waits or is overdue."""
    found = open_client().status()
    return item(found, lambda: status_text(found))


def doctor(output: Output = Format.text) -> Answer:
    """Check that this machine can run flows. Exit code 1 where something is amiss."""
    checks = open_client().doctor()
    failed = any(not check.ok for check in checks)
    return items(checks, lambda: doctor_text(checks), exit_code=1 if failed else 0)


def runner_alone(context: typer.Context, output: Output = Format.text) -> None:
    if context.invoked_subcommand is None:
        answering("runner", runner_state)(output=output)


def runner_state(output: Format) -> Answer:
    state = open_client().runner.state()
    return item(state, lambda: runner_text(state))


def list_runners(output: Output = Format.text) -> Answer:
    """List this home's runner, if it runs."""
    state = open_client().runner.state()
    return items([state] if state.running else [], lambda: runner_text(state))


def start(output: Output = Format.text) -> Answer:
    """Start this home's runner, if it does not run."""
    runner = open_client().runner
    runner.start()
    state = runner.state()
    return item(state, lambda: runner_text(state))


def stop(output: Output = Format.text) -> Answer:
    """Stop this home's runner. What it executes goes on when a runner is started again."""
    runner = open_client().runner
    before = runner.state()
    runner.stop()
    state = runner.state()
    said = f"Stopped the runner (process {before.pid})" if before.running else "No runner was running"
    return item(state, lambda: [said])


def status_text(found: HomeStatus) -> Sequence[Part]:
    counts = (
        ("running", found.running, "cyan"),
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
    return parts


def runner_line(state: RunnerState) -> str:
    if not state.running:
        return NOT_RUNNING
    return f"process {state.pid}, {counted(len(state.executions), 'execution')}"


def runner_text(state: RunnerState) -> Sequence[Part]:
    if not state.running:
        return [dim(f"The runner is {NOT_RUNNING}.")]
    return [
        Facts(
            (
                ("runner", bold(f"process {state.pid}")),
                ("home", state.home),
                ("started", moment(state.started_at, now())),
                ("version", state.version or "-"),
                ("executes", ", ".join(short_id(exec_id) for exec_id in state.executions) or "nothing"),
            )
        )
    ]


def doctor_text(checks: Sequence[DoctorCheck]) -> Sequence[Part]:
    parts: list[Part] = []
    for check in checks:
        mark = "ok  " if check.ok else "FAIL"
        parts.append(Styled(f"{mark}  {check.name}: {check.message}", "green" if check.ok else "red"))
        if check.hint and not check.ok:
            parts.append(f"      {check.hint}")
    return parts
