"""A disk whose power can be cut, and what is in its home afterwards."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from kitaru_registry.home import Home

PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.01
HERE = Path(__file__).parent
UNMOUNT = ("fusermount3", "-u", "-z")


class Disk:
    """forgetful_fs.py, mounted. Its power is cut with everything that uses it: see PoweredHome."""

    def __init__(self, folder: Path, *, ignores: str = "") -> None:
        self.mountpoint = folder / "disk"
        self._image = folder / "image"
        self._ignores = ignores
        self._server: subprocess.Popen[str] | None = None
        self.mountpoint.mkdir()

    def mount(self) -> None:
        command = [sys.executable, str(HERE / "forgetful_fs.py"), str(self.mountpoint), str(self._image)]
        if self._ignores:
            command.append(f"--ignores={self._ignores}")
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.mountpoint.is_mount():
            assert self._server.poll() is None, "the file system ended"
            assert time.monotonic() < deadline, "the file system was not mounted"
            time.sleep(POLL_SECONDS)

    def ask(self, line: str) -> str:
        assert self._server is not None
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(f"{line}\n")
        self._server.stdin.flush()
        return self._server.stdout.readline().strip()

    @property
    def is_cut(self) -> bool:
        return self.ask("state").startswith("cut ")

    def unmount(self) -> None:
        if self._server is None:
            return
        self._server.kill()
        with self._server:
            self._server.wait()
        self._server = None
        subprocess.run([*UNMOUNT, self.mountpoint], check=True)


@dataclass
class PoweredHome:
    """A home on such a disk, and the processes that use it."""

    disk: Disk
    project: Path
    trace: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def home(self) -> Home:
        return Home(self.disk.mountpoint / "home")

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with self.trace.with_suffix(".log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", *command],
                cwd=self.project,
                env={**os.environ, "KITARU_HOME": str(self.home.root), "SOAK_TRACE": str(self.trace)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def kill_all(self) -> None:
        """What a power cut does to processes. A flow's process dies with its runner."""
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait(PATIENCE_SECONDS)
        self.processes.clear()

    def cut(self) -> str:
        """Cut the power if it is on, and come back with what lasted. What was to happen just then."""
        before = self.disk.ask("cut")
        self.kill_all()
        self.disk.unmount()
        self.disk.mount()
        return before

    def end(self) -> None:
        self.kill_all()
        self.disk.unmount()

    def use_until_cut(self, user: subprocess.Popen[bytes]) -> bool:
        """Whether the power was cut before the user was content."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.disk.is_cut:
            if user.poll() is not None:
                # It may have failed because of a cut that came just then.
                assert user.returncode == 0 or self.disk.is_cut, self.told()
                return self.disk.is_cut
            assert time.monotonic() < deadline, self.told()
            time.sleep(POLL_SECONDS)
        return True

    def tell(self, event: str, label: str) -> None:
        """In the same file as flows and users."""
        with self.trace.open("a") as trace:
            trace.write(f"{event} {label} -\n")

    def lines(self, event: str) -> list[tuple[int, str, str]]:
        """Of the trace: line number, label, detail."""
        text = self.trace.read_text() if self.trace.exists() else ""
        split = [line.split(" ", 2) for line in text.splitlines()]
        return [(at, label, detail) for at, (what, label, detail) in enumerate(split) if what == event]

    def labels(self, event: str) -> set[str]:
        return {label for _, label, _ in self.lines(event)}

    def told(self) -> str:
        log = self.trace.with_suffix(".log")
        return f"{self.trace.read_text() if self.trace.exists() else ''}\n{log.read_text() if log.exists() else ''}"

    # What lasted

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.home.database)) as connection:
            return connection.execute(statement).fetchall()

    def lost(self) -> set[str]:
        """What was acknowledged to a flow or to a user, and is not in the record."""
        found = {label for (label,) in self.rows("SELECT metadata ->> 'label' FROM journal WHERE kind = 'c'")}
        found |= {key for (key,) in self.rows("SELECT key FROM waits WHERE status = 'answered'")}
        found |= {exec_id for (exec_id,) in self.rows("SELECT exec_id FROM executions")}
        found |= {f"v{number}" for (number,) in self.rows("SELECT number FROM versions")}
        ended = {exec_id for (exec_id,) in self.rows("SELECT exec_id FROM executions WHERE ended_us IS NOT NULL")}
        acknowledged = set().union(*map(self.labels, ("got", "answered", "invoked", "deployed")))
        return (acknowledged - found) | (self.labels("ended") - ended)

    def damaged_values(self) -> set[str]:
        """Values that a row names and that are not there, byte for byte."""
        named = self.rows(
            "SELECT value_digest FROM journal UNION SELECT value_digest FROM artifacts "
            "UNION SELECT result_digest FROM executions"
        )
        digests = [digest for (digest,) in named if isinstance(digest, bytes)]
        return {digest.hex() for digest in digests if not self._is_whole(digest)}

    def _is_whole(self, digest: bytes) -> bool:
        file = self.home.values / digest.hex()[:2] / digest.hex()
        return file.is_file() and sha256(file.read_bytes()).digest() == digest

    def is_sound(self) -> bool:
        return self.rows("PRAGMA integrity_check") == [("ok",)]


def seeded(number: int) -> random.Random:
    """SOAK_SEED, the turn of `make soak`, makes other cuts of the same tests."""
    return random.Random(f"{os.environ.get('SOAK_SEED', '0')}-{number}")
