"""A registry without snapshots behind its digests, and processes that use one at once."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from kitaru_registry.database.opening import Database, open_database
from kitaru_registry.database.tables import executions
from kitaru_registry.deployments import tags
from kitaru_registry.deployments.tags import Author, Seen
from kitaru_registry.deployments.versions import register
from kitaru_registry.executions.creating import NewExecution, create
from kitaru_registry.home import Home
from kitaru_registry.models import Digest, ExecutionId, FlowOptions, GitFacts, Origin, SnapshotConfig, TagMove
from kitaru_registry.records.answers import Registered

HERE = Origin(remote="https://git.example/team/agents", root_commit="a" * 40, folder="/work/agents")
ELSEWHERE = Origin(remote="https://git.example/other/agents", root_commit="b" * 40, folder="/work/other")
ME = Author("me@laptop")


def digest_of(content: str) -> Digest:
    return Digest("sha256:" + hashlib.sha256(content.encode()).hexdigest())


def config_of(flow: str, content: str) -> SnapshotConfig:
    return SnapshotConfig(
        flow=flow,
        entrypoint=f"flows/{flow}.py:{flow}",
        options=FlowOptions(),
        input_schema={"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]},
        output_schema=None,
        python="3.11",
        platform="linux-x86_64",
        protocol=1,
        codec=1,
        kitaru="0.1.0",
        code=digest_of(f"code {content}"),
        lock=digest_of("lock"),
        wheels={},
    )


@dataclass(frozen=True)
class Record:
    """Where a record is: the home's own file, or a database of its own."""

    home: Home

    def open(self) -> Database:
        return open_database(self.home, synchronous="NORMAL")


@dataclass(frozen=True)
class Registry:
    database: Database
    project: str = "default"

    def deploy(
        self,
        content: str,
        *,
        flow: str = "review",
        tag: str | None = None,
        origin: Origin = HERE,
        adopt: bool = False,
        git: GitFacts | None = None,
        project: str | None = None,
    ) -> Registered:
        """A version whose digest stands for `content`."""
        return register(
            self.database,
            project=project or self.project,
            flow=flow,
            origin=origin,
            digest=digest_of(content),
            config=config_of(flow, content),
            git=git,
            actor=ME.actor,
            tag=tag,
            adopt=adopt,
        )

    def look(self, tag: str, *, flow: str = "review") -> Seen:
        return tags.look(self.database, project=self.project, flow=flow, tag=tag)

    def move(
        self,
        tag: str,
        version: int,
        *,
        flow: str = "review",
        author: Author = ME,
        release: bool = False,
        seen: Seen | None = None,
    ) -> TagMove:
        return tags.move(
            self.database,
            project=self.project,
            flow=flow,
            tag=tag,
            version=version,
            author=author,
            release=release,
            seen=seen,
        )

    def rollback(self, tag: str, *, to: int | None = None, author: Author = ME, seen: Seen | None = None) -> TagMove:
        return tags.rollback(
            self.database, project=self.project, flow="review", tag=tag, author=author, to=to, seen=seen
        )

    def delete_tag(self, tag: str, *, seen: Seen | None = None) -> TagMove:
        return tags.delete(self.database, project=self.project, flow="review", tag=tag, author=ME, seen=seen)

    def history(self, tag: str, *, flow: str = "review") -> list[TagMove]:
        return tags.history(self.database, project=self.project, flow=flow, tag=tag)

    def execute(self, version: int, status: str, *, flow: str = "review") -> None:
        """An execution of a version, in a status."""
        new = NewExecution(
            exec_id=ExecutionId(str(uuid4())),
            project=self.project,
            flow=flow,
            kind="deployed",
            inputs={},
            inputs_codec="json",
            inputs_data=b"{}",
            input_digest="",
            actor=ME.actor,
            version=version,
        )
        create(self.database, new)
        with self.database.write() as connection:
            mine = executions.c.exec_id == new.exec_id
            connection.execute(executions.update().where(mine).values(status=status))


PREPARE = """
import json, sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from registries import Registry
from kitaru_registry.deployments.tags import Author
from kitaru_registry.database.opening import open_database
from kitaru_registry.errors import KitaruConflictError
from kitaru_registry.executions.creating import NewExecution, create
from kitaru_registry.home import Home
registry = Registry(open_database(Home(Path({home!r}), {url!r}), synchronous="NORMAL"))
me = {number}
print("ready", flush=True)
sys.stdin.readline()
"""


def at_once(record: Record, code: str, *, processes: int) -> Sequence[Any]:
    """Run `code` in as many processes, all let go at one moment; what each left in `answer`.

    It finds `registry`, and `me`, its own number.
    """
    started = []
    for number in range(processes):
        script = PREPARE.format(
            folder=str(Path(__file__).parent), home=str(record.home.root), url=record.home.record, number=number
        )
        command = [sys.executable, "-c", f"{script}\n{code}\nprint(json.dumps(answer))"]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    answers = []
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        with process:
            output, _ = process.communicate(timeout=60)
            assert process.returncode == 0
            answers.append(json.loads(output))
    return answers
