"""Who works on executions: the local runner, or the process that a source execution is started again in."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.hash_seeds import SEED
from kitaru_registry.api.execution_requests import GetOutline, GetStanding, ListRunning
from kitaru_registry.api.work_requests import GetNextDue, GetRoot, MakeDue, RememberRetention, StopWaiting
from kitaru_registry.clock import as_microseconds, now_us
from kitaru_registry.config import span_seconds
from kitaru_registry.errors import KitaruStateError
from kitaru_registry.models import Execution, ExecutionId
from kitaru_registry.records.answers import Work
from kitaru_registry.records.states import OPEN
from kitaru_runner.host import presence, variables
from kitaru_runner.host.locks import execution_lock, is_held, owner_of
from kitaru_runner.host.retention import end_lost

if TYPE_CHECKING:
    from kitaru.session import Session

STARTING = "starting"
"""A file of an execution's folder: the process that was started last to go on with it."""


def wake(session: Session) -> None:
    presence.wake(session.home)


def ensure(session: Session) -> None:
    """Let pending work find a runner, unless `[runner] autostart = false`."""
    if session.config.runner.autostart:
        presence.ensure_runner(session.home, options(session))
    else:
        presence.wake(session.home)


def hand_over(session: Session, exec_id: ExecutionId, digest: str | None, flow: str, names: Sequence[str]) -> bool:
    """Give the home's runners this process's values of declared variables, in memory. False: nobody has heard.

    Args:
        flow: with its project; other executions of it see them too, until they are given others.
    """
    values = {name: os.environ[name] for name in names if name in os.environ}
    return not values or variables.hand_over(session.home, (exec_id, digest or "", flow), values)


def hand_over_to_starting(
    session: Session, exec_id: ExecutionId, digest: str | None, flow: str, names: Sequence[str]
) -> None:  # fmt: skip
    """As `hand_over`, to a runner that another process has started a moment ago; one of this process has them."""
    if is_held(presence.local_lock(session.home)) and not presence.started_here(session.home):
        presence.wait_for_runner(session.home)
        hand_over(session, exec_id, digest, flow, names)
        session.ask(MakeDue(exec_id=exec_id))
        wake(session)


def look_after_home(session: Session) -> bool:
    """Let the local runner begin where one has died and left work; not where it was stopped. Whether it has."""
    home = session.home
    if not session.config.runner.autostart or presence.was_stopped(home):
        return False
    if is_held(presence.local_lock(home)) or presence.list_runners(home):
        return False
    lost = [found for found in session.ask(ListRunning()) if found.kind == "deployed"]
    if is_overdue(session) or any(not is_executed(session, found.exec_id) for found in lost):
        ensure(session)
        return True
    return False


def is_overdue(session: Session) -> bool:
    due = session.ask(GetNextDue())
    return due is not None and as_microseconds(due) <= now_us()


def set_going(session: Session, exec_id: ExecutionId, *, with_edits: bool = False) -> None:
    """Let an open execution go on now, whatever its kind. A child in its parent's process goes on with that."""
    let_work(session, session.ask(MakeDue(exec_id=exec_id)), with_edits=with_edits)


def let_work(session: Session, work: Work, *, with_edits: bool = False) -> None:
    """Let somebody work on what may go on, as the record says; see `set_going`."""
    if work.status not in OPEN:
        wake(session)
    elif work.kind == "deployed":
        hand_over(session, work.exec_id, work.digest, f"{work.project}/{work.flow}", work.variables)
        ensure(session)
    else:
        root = session.ask(GetRoot(exec_id=work.exec_id))
        if not is_executed(session, root.work.exec_id):
            status = root.work.status
            if root.waits_for_child:
                status = session.ask(StopWaiting(exec_id=root.work.exec_id)).status
            if status in ("pending", "running"):
                start_source(session, root.work.exec_id, with_edits=with_edits)


def look_after(session: Session, exec_id: ExecutionId) -> None:
    """See to it that an open, deployed execution has a runner, or the children that it waits for; and its times.

    Raises:
        KitaruStateError: it is a source execution whose attempt has ended, and which nobody goes on with.
    """
    execution = session.ask(GetOutline(exec_id=exec_id))
    working = {execution.status, *(child.status for child in execution.children)}
    if execution.kind == "deployed" and execution.status in OPEN and is_due(session, working):
        ensure(session)
    elif execution.status == "pending" and execution.status_reason is not None and not is_executed(session, exec_id):
        raise KitaruStateError(
            f"execution {exec_id} has stopped: {execution.status_reason}",
            hint=f"kitaru executions resume {exec_id}",
        )


def is_due(session: Session, working: set[str]) -> bool:
    """Whether a runner has something to do, by and by, for executions of these states."""
    return bool(working & {"pending", "running"}) or session.ask(GetNextDue()) is not None


def owner(session: Session, exec_id: ExecutionId) -> str:
    """Who executes it, in words: `process 12 (runner 7)`."""
    return owner_of(execution_lock(session.home, exec_id))


def tell_to_end(session: Session, wanted: Sequence[ExecutionId]) -> None:
    """Let the processes of these look for a request to cancel; those that have lost theirs end here."""
    end_lost(session.database, wanted)
    wake(session)
    here = sys.modules.get("kitaru.running")
    if here is not None:
        here.poke_all()


def is_executed(session: Session, exec_id: ExecutionId) -> bool:
    """Whether a process of this machine has it, or one of another home that shares the record."""
    if is_held(execution_lock(session.home, exec_id)):
        return True
    is_shared = session.home.record is not None
    return is_shared and session.ask(GetStanding(exec_id=exec_id)).is_elsewhere


def is_abandoned(session: Session, exec_id: ExecutionId) -> bool:
    """Whether it is a source execution that should be going on, as its record says, and whose process is gone."""
    execution = session.ask(GetOutline(exec_id=exec_id))
    if execution.kind != "source" or execution.status not in ("pending", "running"):
        return False
    family = {exec_id, session.ask(GetRoot(exec_id=exec_id)).work.exec_id}
    return not any(is_executed(session, found) or is_starting(session, found) for found in family)


def why_pending(session: Session, execution: Execution) -> str | None:
    if presence.list_runners(session.home):
        return None
    return "no runner: start one with kitaru runner" if not session.config.runner.autostart else None


def remember_retention(session: Session) -> None:
    """Tell the home's runner how long this project keeps ended executions."""
    kept = session.config.retention.executions
    seconds = None if kept is None else span_seconds(kept)
    session.ask(RememberRetention(project=session.project, seconds=seconds))


def options(session: Session) -> list[str]:
    config = session.config
    remember_retention(session)
    return [
        f"--max-executions={config.runner.max_executions}",
        f"--idle-seconds={config.runner.idle_seconds}",
        f"--lease-seconds={config.runner.lease_seconds}",
        f"--synchronous={config.journal.synchronous}",
        *([f"--record={session.home.record}"] if session.home.record is not None else []),
        *([f"--store={session.home.store}"] if session.home.store is not None else []),
    ]


def start_source(session: Session, exec_id: ExecutionId, *, with_edits: bool) -> None:
    """Start a source execution again, in a process of its own, with the interpreter and folder it began with."""
    from kitaru.sources import require_resumable

    execution = session.ask(GetOutline(exec_id=exec_id))
    source = require_resumable(session, execution, with_edits=with_edits)
    session.ask(MakeDue(exec_id=exec_id))
    interpreter = source.interpreter if Path(source.interpreter).exists() else sys.executable
    folder = session.home.execution(execution.exec_id)
    process = presence.start_detached(
        [interpreter, "-m", "kitaru.resuming", execution.exec_id], home=session.home, folder=folder,
        cwd=Path(source.folder), variables={SEED: str(source.hash_seed or 0)},
    )  # fmt: skip
    (folder / STARTING).write_text(str(process))


def is_starting(session: Session, exec_id: ExecutionId) -> bool:
    """Whether a process is there that was started to go on with it."""
    try:
        process = Path("/proc", (session.home.execution(exec_id) / STARTING).read_text())
        command, state = (process / "cmdline").read_bytes(), (process / "stat").read_text().rpartition(")")[2]
    except OSError:
        return False
    # Empty while it is being executed, and when it is dead but not buried.
    return exec_id.encode() in command or (not command and state.split()[0] not in ("Z", "X"))
