# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Drafts release notes from a git history, waits for your approval, publishes a Markdown file.

The drafting is plain Python, so that this runs anywhere and costs nothing. Put a model into `draft_area`, add its
package to `dependencies` above, and deploy again: nothing else changes.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path

from kitaru import checkpoint, current_execution_id, flow, log, save, wait

CREDIT_AUTHORS = False
"""Whether the notes end with the names of those who wrote the commits."""

RECORD, FIELD = "\x1e", "\x1f"


@dataclass(frozen=True)
class Commit:
    id: str
    author: str
    subject: str
    files: tuple[str, ...]
    added: int
    removed: int


@dataclass(frozen=True)
class Area:
    """What happened in one top-level folder."""

    name: str
    commits: tuple[Commit, ...]
    """Newest first."""
    seconds: float
    """How long its draft takes, at least."""


@flow
def release_notes(
    repository: str,
    output: str = "RELEASE_NOTES.md",
    since: str | None = None,
    title: str = "Release notes",
    seconds_per_draft: float = 0.0,
) -> str:
    """The path of the published file, or "Rejected".

    `since` is the tag or commit to start after. `output` is relative to `repository`.
    """
    commits = read_history(repository, since)
    areas = group_by_area(commits, seconds_per_draft)
    log(commits=len(commits), areas=len(areas))

    sections = [draft.result() for draft in draft_area.map(areas)]
    notes = assemble(title, commits, sections)
    save("notes", notes, type="output")

    approved = wait(name="approve", question=f"Publish these notes?\n\n{notes}", schema=bool)
    if not approved:
        return "Rejected"
    return publish(notes, str(Path(repository, output).absolute()))


@checkpoint
def read_history(repository: str, since: str | None) -> list[Commit]:
    """The commits up to HEAD, newest first. As a checkpoint: what is resumed goes on with the history it began with."""
    revisions = f"{since}..HEAD" if since else "HEAD"
    layout = f"--format={RECORD}%h{FIELD}%an{FIELD}%s"
    options = ["--no-merges", "--no-renames", "--numstat", layout, "--end-of-options", revisions]
    git = subprocess.run(
        ["git", "-C", repository, "-c", "core.quotePath=false", "log", *options],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if git.returncode != 0:
        raise RuntimeError(f"git cannot read the history of {repository}: {git.stderr.strip()}")
    return [parse_commit(record) for record in git.stdout.split(RECORD)[1:]]


def parse_commit(record: str) -> Commit:
    head, *changes = record.strip().splitlines()
    id, author, subject = head.split(FIELD)
    rows = [line.split("\t", 2) for line in changes if line]
    return Commit(
        id=id,
        author=author,
        subject=subject,
        files=tuple(path for _, _, path in rows),
        # A binary file has "-" for both counts.
        added=sum(int(added) for added, _, _ in rows if added.isdigit()),
        removed=sum(int(removed) for _, removed, _ in rows if removed.isdigit()),
    )


def group_by_area(commits: list[Commit], seconds_per_draft: float) -> list[Area]:
    """One area per top-level folder, the busiest first.

    `seconds_per_draft` stands in for a model that answers one request after the other: the n-th draft takes n turns.
    """
    busy = Counter(name for commit in commits for name in {area_of(path) for path in commit.files})
    ranked = sorted(busy, key=lambda name: (-busy[name], name))
    return [
        Area(
            name=name,
            commits=tuple(commit for commit in commits if name in map(area_of, commit.files)),
            seconds=seconds_per_draft * turn,
        )
        for turn, name in enumerate(ranked, start=1)
    ]


def area_of(path: str) -> str:
    folder, slash, _ = path.partition("/")
    return folder if slash else "project"


@checkpoint(type="llm_call")
def draft_area(area: Area) -> str:
    """One section of the notes."""
    print(f"drafting {area.name} for {current_execution_id()}", flush=True)
    time.sleep(area.seconds)
    files = {path for commit in area.commits for path in commit.files if area_of(path) == area.name}
    summary = f"{count(area.commits, 'commit')}, {count(files, 'file')}."
    return "\n".join([f"## {area.name}", "", summary, "", *(f"- {it.subject} ({it.id})" for it in area.commits)])


def assemble(title: str, commits: list[Commit], sections: list[str]) -> str:
    if not commits:
        return f"# {title}\n\nNothing has changed.\n"
    added, removed = sum(commit.added for commit in commits), sum(commit.removed for commit in commits)
    parts = [f"# {title}", f"{count(commits, 'commit')}, +{added} -{removed} lines.", *sections]
    if CREDIT_AUTHORS:
        parts.append("Thanks to " + ", ".join(sorted({commit.author for commit in commits})) + ".")
    return "\n\n".join(parts) + "\n"


def count(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


@checkpoint
def publish(notes: str, path: str) -> str:
    """Write the file, whole or not at all. After a crash this may run again, and writes the same bytes."""
    target = Path(path)
    draft = target.with_name(f".{target.name}.{current_execution_id()}")
    draft.write_text(notes, encoding="utf-8")
    draft.replace(target)
    return str(target)
