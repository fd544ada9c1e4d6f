"""An empty home for a test, in memory where the machine has a folder for that."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kitaru import running
from kitaru.client import KitaruClient
from kitaru.databases import shared
from kitaru_registry.database.opening import open_database
from kitaru_registry.errors import KitaruError, KitaruNotFoundError, KitaruStateError
from kitaru_registry.home import Home
from kitaru_runner.host.environment import remove_environment

MEMORY = Path("/dev/shm")
PATIENCE_SECONDS = 5.0
"""How long a flow that still runs at the end may take to end."""

BEGINNING_SECONDS = 0.05

_in_use: list[KitaruClient] = []


@contextmanager
def home() -> Iterator[KitaruClient]:
    """An empty home, which everything in this process uses until the end of the `with` block; a client for it.

    It is a folder in memory (`/dev/shm`) where there is one, nothing of it is synced, and it is in `KITARU_HOME`, so
    that processes which are started use it too. At the end what still runs there is cancelled, its runner is stopped,
    the folder is gone, and `KITARU_HOME` is what it was.

    Raises:
        KitaruStateError: another test home is in use.
    """
    if _in_use:
        raise KitaruStateError(
            f"a test home is in use already: {_in_use[0].home.root}",
            hint="leave its with block first, or use the client that it gave",
        )
    folder, large = new_folders()
    before = os.environ.get("KITARU_HOME")
    os.environ["KITARU_HOME"] = str(folder)
    client = KitaruClient(Home(folder))
    _in_use.append(client)
    try:
        open_unsynced(client.home)
        yield client
    finally:
        try:
            end_all(client)
        finally:
            _in_use.clear()
            if before is None:
                os.environ.pop("KITARU_HOME", None)
            else:
                os.environ["KITARU_HOME"] = before
            shared.drop(client.home.root)
            remove(folder)
            remove(large)


@contextmanager
def home_in_use() -> Iterator[KitaruClient]:
    """The test home that is in use; without one, one of its own."""
    if _in_use:
        yield _in_use[0]
        return
    with home() as client:
        yield client


def new_folders() -> tuple[Path, Path]:
    """The home's folder, and one on disk for what is large in it, or executed: memory may be small, and forbid that."""
    memory = MEMORY if os.access(MEMORY, os.W_OK) else None
    folder, large = (Path(tempfile.mkdtemp(prefix="kitaru-test-", dir=parent)) for parent in (memory, None))
    for name in ("environments", "tools", "cache"):
        (large / name).mkdir()
        (folder / name).symlink_to(large / name)
    return folder, large


def remove(folder: Path) -> None:
    try:
        remove_environment(folder)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)


def open_unsynced(home: Home) -> None:
    """Let every client of this process share one connection to the home, which never waits for the disk."""
    database = open_database(home, synchronous="OFF")
    for said in ("FULL", "NORMAL"):
        shared.put(home, said, database)


def end_all(client: KitaruClient) -> None:
    """End the executions that this process still has there, and the home's runner."""
    for exec_id, run in list(running.runs.items()):
        if run.session.home.root != client.home.root:
            continue
        with suppress(KitaruError):  # it has just ended
            client.executions.cancel(exec_id)
        if run.thread is not None:
            run.thread.join(PATIENCE_SECONDS)
    with suppress(KitaruNotFoundError):
        client.runner.stop()
    if client.home.runner.exists():
        # One that has begun this very moment shows neither command nor environment yet.
        time.sleep(BEGINNING_SECONDS)
        end_processes(client.home)


def end_processes(home: Home) -> None:
    """End what is left: a runner that has just been started has not said yet which process it is."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := processes_of(home):
        kind = signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, kind)
        time.sleep(0.02)


def processes_of(home: Home) -> list[int]:
    """Kitaru's own processes of this user that have the home."""
    said = f"\0KITARU_HOME={home.root}\0".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_ours = b"\0-m\0kitaru" in (folder / "cmdline").read_bytes()
            if is_ours and said in b"\0" + (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found
