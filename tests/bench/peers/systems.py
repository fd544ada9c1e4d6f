"""The systems that Kitaru is measured beside, each run as a program in its own environment."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from environments import Environment, Unavailable, environment, outside, reason
from postgres import Missing, Postgres
from program import STEPS

HERE = Path(__file__).parent
PATIENCE_SECONDS = 180


@dataclass(frozen=True)
class Kind:
    """One row of each table, as far as `works` says."""

    name: str
    program: str
    environment: str
    on: str
    imports: str = ""
    flavour: str = ""
    works: tuple[str, ...] = ("steps", "concurrent", "resume", "invoke", "large", "import")


NO_QUEUE = ("steps", "concurrent", "resume", "large", "import")

POSTGRES_LIMIT = Kind(
    "one raw commit, Postgres, unix socket", "limit_postgres.py", "postgres", "postgres", works=("steps",)
)
PEERS = (
    Kind("DBOS, SQLite", "peer_dbos.py", "dbos", "sqlite", "dbos"),
    Kind("DBOS, Postgres", "peer_dbos.py", "dbos", "postgres",
         works=("steps", "concurrent", "resume", "invoke", "large")),
    Kind("LangGraph, functional, SQLite saver", "peer_langgraph.py", "langgraph", "sqlite",
         "langgraph.func, langgraph.checkpoint.sqlite", "functional", NO_QUEUE),
    Kind("LangGraph, graph, SQLite saver", "peer_langgraph.py", "langgraph", "sqlite",
         "langgraph.graph, langgraph.checkpoint.sqlite", "graph", NO_QUEUE),
    Kind("Absurd, Postgres", "peer_absurd.py", "absurd", "postgres", "absurd_sdk"),
)  # fmt: skip


@dataclass
class System:
    """A kind that was set up, with a store of its own; or the reason why it was not."""

    kind: Kind
    folder: Path
    environment: Environment | None = None
    store: str = ""
    # Of everything, or of one work: a peer that failed once is not asked again.
    failed: dict[str, str] = field(default_factory=dict)
    durability: str = ""

    def ask(self, action: str, notes: Path | None = None) -> Any:
        """What the program answered."""
        done = self._run(action, notes)
        if done.returncode != 0:
            raise Unavailable(reason(done.stderr) or f"its program ended with {done.returncode}")
        return json.loads(done.stdout.splitlines()[-1])

    def resumed(self, number: int) -> tuple[float, float]:
        """Milliseconds of the whole process that brought it to its end, and the steps that executed again."""
        notes = self._notes(f"killed-{number}")
        first = self._run("begin", notes)
        if first.returncode != -signal.SIGKILL:
            raise Unavailable(reason(first.stderr) or "it was not killed where it should have been")
        began = time.perf_counter()
        self.ask("resume", notes)
        took = (time.perf_counter() - began) * 1000
        executed = Counter((notes / "executed").read_text().split())
        if len(executed) != STEPS:
            raise Unavailable(f"it ended, but {STEPS - len(executed)} steps never executed")
        return took, sum(executed.values()) - STEPS

    def invoked(self, number: int) -> list[float]:
        """Milliseconds of each invocation of a no-op that another process executes."""
        with self._serving(self._notes(f"invoked-{number}")):
            answer: list[float] = self.ask("invoke")["ms"]
        return answer

    @contextmanager
    def _serving(self, notes: Path) -> Iterator[None]:
        worker = subprocess.Popen(
            self._command("serve", notes), env=outside(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            until = time.monotonic() + PATIENCE_SECONDS
            while not (notes / "serving").exists():
                if worker.poll() is not None or time.monotonic() > until:
                    raise Unavailable("its worker did not start")
                time.sleep(0.01)
            yield
        finally:
            worker.kill()
            worker.wait()

    def _notes(self, name: str) -> Path:
        notes = self.folder / name
        notes.mkdir()
        return notes

    def _command(self, action: str, notes: Path) -> list[str | Path]:
        assert self.environment is not None
        command: list[str | Path] = [self.environment.python, HERE / self.kind.program, action]
        flavour = ["--flavour", self.kind.flavour] if self.kind.flavour else []
        return [*command, "--store", self.store, "--folder", notes, *flavour]

    def _run(self, action: str, notes: Path | None) -> subprocess.CompletedProcess[str]:
        command = self._command(action, notes or self.folder)
        try:
            return subprocess.run(command, env=outside(), capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"it did not end within {PATIENCE_SECONDS} s") from None


def set_up(kind: Kind, folder: Path, database: Postgres | Missing) -> System:
    """Never raises: what does not work is a row that says so."""
    folder.mkdir()
    system = System(kind, folder)
    try:
        if kind.on == "postgres" and isinstance(database, Missing):
            raise Unavailable(str(database))
        system.environment = environment(kind.environment)
        system.store = address(kind, folder, database)
        system.ask("setup")
    except Unavailable as refused:
        system.failed = dict.fromkeys(kind.works, str(refused))
    return system


def address(kind: Kind, folder: Path, database: Postgres | Missing) -> str:
    if isinstance(database, Postgres) and kind.on == "postgres":
        return database.create(folder.name)
    file = folder / "store.db"
    return f"sqlite:///{file}" if kind.environment == "dbos" else str(file)
