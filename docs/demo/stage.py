"""What the demo stands on: it types commands, shows what they answered, and kills processes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

KITARU = Path(sys.executable).with_name("kitaru")
PATIENCE_SECONDS = 60
WAITING = 6
"""The exit code of a command that is not finished: the execution waits for an answer."""

Item = dict[str, Any]

# A pipe has no width of its own.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 110)


class BrokenPromiseError(Exception):
    """Something that the demo claims is not so."""


def require(kept: bool, promise: str) -> None:
    if not kept:
        raise BrokenPromiseError(f"it does not hold that {promise}")


def say(text: str) -> None:
    console.print(text, markup=False)


def history_of(repository: Path) -> Path:
    """The repository itself, if it has a history to read."""
    if git(repository, "rev-parse", "--verify", "--quiet", "HEAD").returncode != 0:
        raise BrokenPromiseError(f"{repository} has no git history; name a repository that has: make demo REPO=FOLDER")
    return repository


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)


@contextmanager
def open_stage(folder: Path, *, source: Path) -> Iterator[Stage]:
    """A fresh home, and a clone of `source` to edit, so that nobody's checkout or home is touched."""
    stage = Stage(folder=folder, started=time.time())
    if stage.home.exists():
        stage.run("runner", "stop")
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    clone(source, stage.checkout)
    try:
        yield stage
    finally:
        stage.run("runner", "stop")


def clone(source: Path, checkout: Path) -> None:
    """The repository as it is committed, with the agent and its configuration as they are now."""
    cloned = subprocess.run(["git", "clone", "--quiet", str(source), str(checkout)], capture_output=True, text=True)
    require(cloned.returncode == 0, f"git can clone {source}: {cloned.stderr.strip()}")
    for name in ("kitaru.toml", "templates/kitaru_templates/release_notes"):
        if (source / name).is_dir():
            shutil.copytree(source / name, checkout / name, dirs_exist_ok=True)
        else:
            shutil.copy2(source / name, checkout / name)


@dataclass(frozen=True)
class Stage:
    folder: Path
    started: float

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def checkout(self) -> Path:
        return self.folder / "agent"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KITARU_")}
        return subprocess.run(
            [KITARU, *arguments],
            cwd=self.checkout if self.checkout.exists() else None,
            env=environment | {"KITARU_HOME": str(self.home)},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS,
        )

    def kitaru(self, *arguments: str) -> Item:
        """Type a command where the audience sees it; its item."""
        self.typed(f"kitaru {shlex.join(arguments)}")
        return self.quietly(*arguments)

    def quietly(self, *arguments: str) -> Item:
        answer: Item = self.answer_of(*arguments)["item"]
        return answer

    def answer_of(self, *arguments: str) -> Item:
        done = self.run(*arguments, "--output", "json")
        if done.returncode not in (0, WAITING):
            raise BrokenPromiseError(f"kitaru {shlex.join(arguments)} ended with {done.returncode}\n{done.stderr}")
        answer: Item = json.loads(done.stdout)
        return answer

    def invoke(self, flow: str, *options: str, **inputs: object) -> Item:
        return self.kitaru("invoke", flow, *options, "--input", json.dumps(inputs))

    def answer(self, execution: Item, *, approved: bool) -> Item:
        """Answer the one pending wait, and wait for the end of the execution."""
        self.kitaru("executions", "input", execution["exec_id"], "--value", json.dumps(approved))
        finished = self.wait_until(execution, lambda it: it["status"] in ("completed", "failed", "cancelled"))
        require(finished["status"] == "completed", f"an answered execution completes: {finished['error']}")
        self.show(f"completed: {finished['result']}")
        return finished

    def get(self, execution: Item) -> Item:
        return self.quietly("executions", "get", execution["exec_id"])

    def wait_until(self, execution: Item, condition: Callable[[Item], bool]) -> Item:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition(found := self.get(execution)):
            if time.monotonic() > deadline or found["status"] in ("failed", "cancelled"):
                raise BrokenPromiseError(f"execution {found['exec_id']} is {found['status']}: {found['error']}")
            time.sleep(0.1)
        return found

    def kill_runner_and_child(self) -> None:
        """SIGKILL the runner and every process below it."""
        runners = self.answer_of("runner", "list")["items"]
        require(len(runners) == 1, "one runner executes what is pending")
        runner = runners[0]["pid"]
        children = descendants(runner)
        require(bool(children), "the runner has a child that runs the agent")
        victims = (runner, *children)
        for process in victims:
            os.kill(process, signal.SIGKILL)
        self.typed(f"kill -9 {' '.join(map(str, victims))}   # the runner, and the child that runs the agent")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(map(is_alive, victims)) and time.monotonic() < deadline:
            time.sleep(0.01)
        require(not any(map(is_alive, victims)), "SIGKILL ends a process")

    def times_drafted(self, execution: Item) -> Counter[str]:
        """How often each draft was begun, from what the agent printed over all attempts."""
        printed = self.answer_of("executions", "logs", execution["exec_id"])["items"]
        drafting = (re.match(r"drafting (.+) for ", line["message"]) for line in printed)
        return Counter(found[1] for found in drafting if found)

    def typed(self, command: str) -> None:
        console.print(f"  $ {command}", style="bold cyan", markup=False)

    def heading(self, text: str) -> None:
        console.print(f"\n[bold]{text}[/]")

    def show(self, text: str) -> None:
        console.print(f"    {text}", style="green", markup=False)

    def excerpt(self, text: str, *, lines: int) -> None:
        every = text.splitlines()
        for line in every[:lines]:
            console.print(f"    | {line}"[:100], style="dim", markup=False)
        if len(every) > lines:
            console.print(f"    | ... {len(every) - lines} more lines", style="dim", markup=False)

    def survivors(self, execution: Item, kept: Mapping[str, Item], *, begun: Counter[str]) -> None:
        """Show which checkpoints were kept; check that none of them was begun twice."""
        table = Table("checkpoint", "before the kill", "after it", box=None, padding=(0, 2))
        for call in execution["checkpoints"]:
            was_kept = call["key"] in kept
            table.add_row(call["key"], "recorded" if was_kept else "-", "taken from the journal" if was_kept else "run")
        console.print(table)
        drafts = [call for call in execution["checkpoints"] if call["name"] == "draft_area"]
        kept_drafts = sum(call["key"] in kept for call in drafts)
        require(len(begun) == len(drafts), "every draft was begun")
        once = sum(times == 1 for times in begun.values())
        require(once >= kept_drafts, "no recorded draft was begun twice")
        self.show(f"{kept_drafts} of {len(drafts)} drafts were recorded, and not one of them was made again")

    def history(self, tag: str) -> None:
        table = Table("at", "tag", "what", "from", "to", "by", "why", box=None, padding=(0, 2))
        for move in self.answer_of("tag", "history", tag)["items"]:
            at = f"+{seconds(move['at']) - self.started:.0f} s"
            table.add_row(
                at, tag, move["kind"], route(move["from"]), route(move["to"]), move["actor"], move["reason"] or ""
            )
        console.print(table)

    def timeline(self) -> None:
        """Every execution from its creation to its end, oldest first."""
        executions = self.answer_of("executions", "list")["items"][::-1]
        table = Table(
            "execution", "version", "tag", "attempts", "status", "began", "took", "result", box=None, padding=(0, 2)
        )
        for item in executions:
            began, ended = seconds(item["created_at"]), seconds(item["ended_at"])
            result = Path(str(item["result"])).name
            times = (f"+{began - self.started:.0f} s", f"{ended - began:.1f} s")
            numbers = (f"v{item['version']}", item["tag"], str(item["attempt"]))
            table.add_row(item["exec_id"][-8:], *numbers, item["status"], *times, result)
        console.print(table)


def blobs(deployed: Item) -> str:
    counts = deployed["blobs"]
    return f"{counts['new']} of {counts['total']} blobs are new, {counts['bytes_new'] / 1024:,.0f} KiB"


def route(routes: Mapping[str, int] | None) -> str:
    return ", ".join(routes) if routes else "-"


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def descendants(process: int) -> list[int]:
    """The processes below one, nearest first."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        below.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = list(below.get(process, []))
    for child in found:
        found.extend(below.get(child, []))
    return found


def is_alive(process: int) -> bool:
    """A zombie is not alive: it runs nothing, and only waits to be read by its parent."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")
