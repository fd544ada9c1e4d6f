"""Where it is measured: a home and a project in a folder of the checkout, on the checkout's disk."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import ROOT, milliseconds

from kitaru.client import KitaruClient
from kitaru_registry.home import Home

# Compiled bytecode is how Kitaru is installed, and these would be passed on to every process.
for name in ("PYTHONDONTWRITEBYTECODE", "KITARU_PROJECT", "KITARU_ACTOR"):
    os.environ.pop(name, None)
sys.dont_write_bytecode = False

KITARU = Path(sys.executable).with_name("kitaru")
PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Place:
    home: Home
    project: Path
    client: KitaruClient

    def kitaru(self, *arguments: str) -> Any:
        """The command's `item`."""
        done = subprocess.run([KITARU, *arguments, "-o", "json"], cwd=self.project, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"kitaru {' '.join(arguments)} ended with {done.returncode}\n{done.stderr}")
        return json.loads(done.stdout).get("item")

    def deploy(self, flow: str) -> Any:
        return self.kitaru("deploy", f"{'quiet' if flow == 'noop' else 'flows'}.py:{flow}")

    def invoke(self, flow: str, **inputs: Any) -> Any:
        """The result of an execution on the warm runner."""
        return self.client.deployments.invoke(flow=flow, inputs=inputs).wait(PATIENCE_SECONDS)


@contextmanager
def place(*, synchronous: str = "FULL", flows: Sequence[str] = ()) -> Iterator[Place]:
    """A project, a git repository of its own, with these flows deployed; gone afterwards, its runner too."""
    work = ROOT / ".work" / "bench"
    shared = work / "shared"
    for name in ("cache", "tools"):
        (shared / name).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=work))
    project = folder / "project"
    shutil.copytree(Path(__file__).parent / "project", project, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "kitaru.toml").write_text(f'[journal]\nsynchronous = "{synchronous}"\n')
    git(project, "init", "--quiet")
    commit_all(project)
    home = Home(folder / "home")
    home.root.mkdir(mode=0o700)
    for name in ("cache", "tools"):
        (home.root / name).symlink_to(shared / name)
    os.environ["KITARU_HOME"] = str(home.root)
    sys.path.insert(0, str(project))
    found = Place(home, project, KitaruClient(home, cwd=project))
    try:
        for flow in flows:
            found.deploy(flow)
        yield found
    finally:
        if home.runner.exists():
            subprocess.run([KITARU, "runner", "stop"], cwd=project, capture_output=True)
        sys.path.remove(str(project))
        sys.modules.pop("flows", None)
        remove(folder)


def remove(folder: Path) -> None:
    """Environments are read-only."""
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", *arguments], cwd=folder, check=True
    )


def commit_all(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "as it is")


class RawJournal:
    """The machine's limit: one row a commit, of a step's size, into SQLite as Kitaru opens it."""

    def __init__(self, folder: Path, synchronous: str) -> None:
        self._connection = sqlite3.connect(folder / f"raw-{synchronous}.db", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute(f"PRAGMA synchronous={synchronous}")
        self._connection.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, data BLOB)")
        self._row = os.urandom(120)

    def commits(self, count: int) -> list[float]:
        """Milliseconds of each."""
        return [milliseconds(self._commit) for _ in range(count)]

    def _commit(self) -> None:
        self._connection.execute("INSERT INTO rows (data) VALUES (?)", (self._row,))

    def close(self) -> None:
        self._connection.close()


def database_bytes(home: Home) -> int:
    """What the record takes, without pages that are free."""
    with closing(sqlite3.connect(home.database)) as connection:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return int(pages - free) * int(size)


def process(*command: str | Path, cwd: Path | None = None) -> float:
    """Milliseconds of a whole process."""
    began = time.perf_counter()
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000
