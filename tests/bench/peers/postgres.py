"""A PostgreSQL server of our own: a folder of its own, a unix socket and no other door, ended by its own process id."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# /tmp may be memory, where a commit costs nothing; and the server's own user must be able to reach it.
ON_DISK = Path("/var/tmp")
PATIENCE_SECONDS = 30


class Missing(Exception):
    """Says why there is no server, and how to get one."""


class Postgres:
    def __init__(self, folder: Path, binaries: Path) -> None:
        self._folder, self._binaries = folder, binaries

    @property
    def version(self) -> str:
        told = subprocess.run([self._binaries / "postgres", "--version"], capture_output=True, text=True, check=True)
        return told.stdout.split()[2]

    def create(self, name: str) -> str:
        """Address of a new, empty database."""
        self.psql("postgres", f'CREATE DATABASE "{name}"')
        return f"postgresql://postgres@/{name}?host={self._folder}"

    def psql(self, database: str, statement: str) -> None:
        command = [self._binaries / "psql", "-X", "-q", "-h", self._folder, "-U", "postgres", "-c", statement, database]
        subprocess.run(command, check=True, capture_output=True)


def binaries() -> Path:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise Missing("PostgreSQL is not installed: apt-get install -y postgresql")


def other_user() -> dict[str, Any]:
    """What `subprocess` wants: the server refuses to run as root."""
    if os.getuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        raise Missing("PostgreSQL has no user of its own: apt-get install -y postgresql") from None
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Raises Missing before anything is made."""
    found, user = binaries(), other_user()
    folder = Path(tempfile.mkdtemp(prefix="kitaru-bench-", dir=ON_DISK))
    if user:
        os.chown(folder, user["user"], user["group"])
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **user}
    try:
        data = folder / "data"
        made = subprocess.run([found / "initdb", "-D", data, "-A", "trust", "-N", "-U", "postgres"], **quiet)
        if made.returncode != 0:
            raise Missing(f"PostgreSQL's initdb ended with {made.returncode}")
        server = subprocess.Popen([found / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="], **quiet)
        try:
            database = Postgres(folder, found)
            answers(database, server)
            yield database
        finally:
            # "Fast": sessions are ended, and what is committed is kept.
            server.send_signal(signal.SIGINT)
            server.wait(PATIENCE_SECONDS)
    finally:
        shutil.rmtree(folder)


def answers(database: Postgres, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while server.poll() is None and time.monotonic() < until:
        try:
            database.psql("postgres", "SELECT 1")
            return
        except subprocess.CalledProcessError:
            time.sleep(0.05)
    raise Missing("PostgreSQL did not start")
