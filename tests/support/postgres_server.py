"""A real PostgreSQL server of a test run's own, and a record in a database of its own for each test."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
TEMPLATE = "kitaru_template"
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
LASTING = ("fsync=on",)


def binary(name: str) -> Path:
    found = BINARIES[-1] / name if BINARIES else None
    assert found, "the tests need PostgreSQL: sudo apt-get install -y postgresql"
    return found


def as_server_user() -> dict[str, int]:
    """initdb refuses root, who starts it as the user that the package has made."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A server on a free port, in a folder of its own, that trusts whoever comes over loopback."""

    folder: Path
    port: int
    settings: tuple[str, ...] = FAST
    _numbers: Iterator[int] = field(default_factory=count)
    _has_template: bool = False

    def _control(self, *arguments: str) -> None:
        done = subprocess.run(
            [binary("pg_ctl"), "-D", self.folder / "data", "-s", "-w", *arguments],
            capture_output=True, text=True, cwd="/", **as_server_user(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + (self.folder / "log").read_text()[-2_000:]

    def create(self) -> None:
        subprocess.run(
            [binary("initdb"), "-D", self.folder / "data", "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8",
             "--locale=C.UTF-8"],
            check=True, capture_output=True, cwd="/", **as_server_user(),
        )  # fmt: skip

    def start(self) -> None:
        said = {
            "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.folder), "max_connections": "200",
            **dict(setting.split("=") for setting in self.settings),
        }  # fmt: skip
        options = " ".join(f"-c {name}={value}" for name, value in said.items())
        self._control("-l", str(self.folder / "log"), "-o", f"-p {self.port} {options}", "start")

    def stop(self, how: str = "immediate") -> None:
        """Immediate: as if the machine had lost its power, but for what the operating system keeps."""
        self._control("-m", how, "stop")

    def kill(self) -> None:
        """SIGKILL to its first process; its others end by themselves."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def url(self, database: str, *, user: str = "postgres", password: str | None = None) -> str:
        who = user if password is None else f"{user}:{password}"
        return f"postgresql://{who}@127.0.0.1:{self.port}/{database}"

    def run(self, statement: str, *, database: str = "postgres") -> list[tuple[object, ...]]:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]  # of the tests' own
            return list(cursor.fetchall()) if cursor.description else []

    def new_database(self, *, template: str = "template1") -> str:
        name = f"kitaru_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def new_record(self) -> str:
        """The URL of an empty record."""
        from kitaru_registry.database.migrating import migrate_postgres
        from kitaru_registry.database.postgres import Postgres

        if not self._has_template:
            self.run(f"CREATE DATABASE {TEMPLATE}")
            migrate_postgres(Postgres(self.url(TEMPLATE)))
            self._has_template = True
        return self.url(self.new_database(template=TEMPLATE))


@contextmanager
def server(settings: tuple[str, ...] = FAST) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="kitaru-postgres-"))
    if user := as_server_user():
        os.chown(folder, user["user"], user["group"])
    found = Server(folder, free_port(), settings)
    try:
        found.create()
        found.start()
        yield found
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            found.stop()
        shutil.rmtree(folder, ignore_errors=True)
