"""A tree of real files, in a real repository where a test wants one."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kitaru_registry.snapshots.files import Collection, collect
from kitaru_registry.snapshots.git import read_git


@dataclass(frozen=True)
class Tree:
    """A folder to put files and a repository into."""

    root: Path

    def write(self, files: Mapping[str, str | bytes]) -> Tree:
        for path, content in files.items():
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        return self

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, message: str = "change") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def collect(
        self, *, include: Sequence[str] = (), exclude: Sequence[str] = (), allow: Sequence[str] = ()
    ) -> Collection:
        return collect(self.root, include=include, exclude=exclude, allow=allow, git=read_git(self.root))

    def paths(
        self, *, include: Sequence[str] = (), exclude: Sequence[str] = (), allow: Sequence[str] = ()
    ) -> list[str]:
        return [file.path for file in self.collect(include=include, exclude=exclude, allow=allow).files]
