"""An empty home for a test, in memory where the machine has a folder for that."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kitaru import client as clients
from kitaru import running
from kitaru.client import KitaruClient
from kitaru_registry.database import open_database
from kitaru_registry.errors import KitaruError, KitaruStateError
from kitaru_registry.home import Home

MEMORY = Path("/dev/shm")
PATIENCE_SECONDS = 5.0
"""How long a flow that still runs at the end may take to end."""

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
    folder = Path(tempfile.mkdtemp(prefix="kitaru-test-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
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
            forget(client.home)
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def home_in_use() -> Iterator[KitaruClient]:
    """The test home that is in use; without one, one of its own."""
    if _in_use:
        yield _in_use[0]
        return
    with home() as client:
        yield client


def open_unsynced(home: Home) -> None:
    """Let every client of this process share one connection to the home, which never waits for the disk."""
    database = open_database(home, synchronous="OFF")
    with clients._lock:
        for said in ("FULL", "NORMAL"):
            clients._databases[home.root, said] = database


def end_all(client: KitaruClient) -> None:
    """End the executions that this process still has there, and the home's runner."""
    for exec_id, run in list(running.runs.items()):
        if run.client.home.root != client.home.root:
            continue
        try:
            client.executions.cancel(exec_id)
        except KitaruError:
            pass  # it has just ended
        if run.thread is not None:
            run.thread.join(PATIENCE_SECONDS)
    if client.runner.state().running:
        client.runner.stop()


def forget(home: Home) -> None:
    """Close what this process holds open there."""
    writer = running._writers.pop(home.root, None)
    if writer is not None:
        writer.close()
    for key in [key for key in clients._databases if key[0] == home.root]:
        clients._databases.pop(key).close()
