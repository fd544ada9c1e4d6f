"""`status` and `doctor`: how a home is, and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.reasons import gone
from kitaru.runners import Runners
from kitaru_registry.api.version_requests import ListVersions
from kitaru_registry.api.work_requests import GetOverview, ListFaults
from kitaru_registry.errors import KitaruError
from kitaru_registry.home import file_system_of, not_writable, why_not_written
from kitaru_registry.models import DoctorCheck, HomeStatus

if TYPE_CHECKING:
    from kitaru.session import Session

LOW_DISK_BYTES = 1 << 30


def status(session: Session) -> HomeStatus:
    found, lost = session.ask(GetOverview(project=session.project)), gone(session)
    return HomeStatus(
        home=str(session.home.root),
        project=session.project,
        flows=found.flows,
        running=found.counts.get("running", 0),
        waiting=found.counts.get("waiting", 0),
        pending=found.counts.get("pending", 0),
        overdue=len(lost) + len(found.late),
        gone=len(lost),
        warned=found.warned,
        runner=Runners(session).state(),
    )


def overdue(session: Session) -> list[str]:
    """Open executions of the project that nobody works on though they could go on."""
    return [*gone(session), *session.ask(GetOverview(project=session.project)).late]


def doctor(session: Session) -> list[DoctorCheck]:
    """Every check, whether it passed or not; none changes anything."""
    checks = (
        check_python, check_uv, check_home, check_database, check_disk, check_snapshots, check_interpreters, check_lost,
        check_faults, check_runner,
    )  # fmt: skip
    return [run_check(check, session) for check in checks]


def run_check(check: Callable[[Session], DoctorCheck], session: Session) -> DoctorCheck:
    try:
        return check(session)
    except KitaruError as error:
        name = check.__name__.removeprefix("check_")
        return DoctorCheck(name=name, ok=False, message=error.message, hint=error.hint)


def check_python(_: Session) -> DoctorCheck:
    supported = sys.version_info >= (3, 11) and platform.python_implementation() == "CPython"
    return DoctorCheck(
        name="python",
        ok=supported,
        message=f"{platform.python_implementation()} {platform.python_version()} on {platform.machine()}",
        hint=None if supported else "install CPython 3.11 or newer",
    )


def check_uv(_: Session) -> DoctorCheck:
    from kitaru_registry.snapshots.uv_tool import uv_binary

    return DoctorCheck(name="uv", ok=True, message=f"uv is at {uv_binary()}")


def check_home(session: Session) -> DoctorCheck:
    root = session.home.root
    refused = why_not_written(session.home)
    if refused is None and not root.exists() and not os.access(root.parent, os.W_OK):
        refused = not_writable(session.home, None)
    if refused is not None:
        raise refused
    kind = file_system_of(root, Path("/proc/self/mounts"))
    return DoctorCheck(name="home", ok=True, message=f"{root} ({kind or 'unknown file system'})")


def check_database(session: Session) -> DoctorCheck:
    health = session.database.health()
    return DoctorCheck(name="database", ok=health.ok, message=health.said, hint=health.hint)


def check_disk(session: Session) -> DoctorCheck:
    folder = session.home.root if session.home.root.exists() else session.home.root.parent
    free = shutil.disk_usage(folder).free
    return DoctorCheck(
        name="disk",
        ok=free > LOW_DISK_BYTES,
        message=f"{free / (1 << 30):.1f} GiB free",
        hint=None if free > LOW_DISK_BYTES else f"free some space: du -sh {session.home.root}/*",
    )


def check_snapshots(session: Session) -> DoctorCheck:
    from kitaru_registry.snapshots.artifact import verify

    versions = session.ask(ListVersions(project=session.project))
    for version in versions:
        verify(session.layout, version.digest)
    return DoctorCheck(name="snapshots", ok=True, message=f"every blob of {len(versions)} version(s) is verified")


def check_interpreters(session: Session) -> DoctorCheck:
    from kitaru_registry.snapshots.artifact import fetch_lock, read_config
    from kitaru_runner.host.environment import find_built, find_interpreter

    missing: list[str] = []
    said = hint = None
    minors: set[str] = set()
    for version in session.ask(ListVersions(project=session.project)):
        config = read_config(session.layout, version.digest)
        minors.add(config.python)
        try:
            find_interpreter(config.python)
        except KitaruError as error:
            if find_built(session.home, lock=fetch_lock(session.layout, config), minor=config.python) is None:
                missing.append(f"{version.flow} v{version.version}")
                said, hint = error.message, error.hint
    if missing:
        return DoctorCheck(
            name="interpreters", ok=False, message=f"{', '.join(missing)} cannot begin: {said}", hint=hint
        )  # fmt: skip
    said = f"there is a CPython {', '.join(sorted(minors))}" if minors else "no version needs one"
    return DoctorCheck(name="interpreters", ok=True, message=said)


def check_faults(session: Session) -> DoctorCheck:
    found = session.ask(ListFaults())
    said = [f"{counted(exec_ids)}: {reason}" for reason, exec_ids in found.items()]
    return DoctorCheck(
        name="machine",
        ok=not found,
        message="; ".join(said) if said else "it lacks nothing that an execution waits for",
        hint="they go on by themselves when that is mended" if found else None,
    )


def counted(exec_ids: Sequence[str]) -> str:
    return f"{exec_ids[0]} cannot begin" if len(exec_ids) == 1 else f"{len(exec_ids)} executions cannot begin"


def check_lost(session: Session) -> DoctorCheck:
    lost = overdue(session)
    return DoctorCheck(
        name="executions",
        ok=not lost,
        message=f"{len(lost)} overdue: {', '.join(lost)}" if lost else "none is overdue",
        hint=f"kitaru executions resume {lost[0]}" if lost else None,
    )


def check_runner(session: Session) -> DoctorCheck:
    state = Runners(session).state()
    counts = session.ask(GetOverview(project=session.project)).counts
    stuck = counts.get("pending", 0) > 0 and not Runners(session).list()
    message = f"the local runner is process {state.pid}" if state.running else "no local runner; work starts one"
    if stuck:
        message = f"{counts['pending']} executions are pending and no runner runs"
    return DoctorCheck(name="runner", ok=not stuck, message=message, hint="kitaru runner" if stuck else None)
