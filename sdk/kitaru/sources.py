"""What an execution that runs from source runs on: its file, and the digest of what a deploy would collect."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.hash_seeds import hash_seed
from kitaru.session import Session
from kitaru_registry.errors import KitaruConflictError, KitaruStateError
from kitaru_registry.models import Execution, Source
from kitaru_runner.child.loader import name_main_module

if TYPE_CHECKING:
    from kitaru.definition import FlowDefinition

_sources: dict[tuple[Path, str], Source] = {}
_lock = threading.Lock()


def source_for(session: Session, flow: FlowDefinition) -> Source | None:
    """What an execution of the flow runs on; None where it has no file."""
    file = flow.file
    if file is None:
        return None
    own = session if file.is_relative_to(session.config.root) else Session(session.home, cwd=file.parent)
    name_main_module(own.config.root, file)
    return source_of(own, file, flow.name)


def source_of(session: Session, file: Path, name: str) -> Source:
    """What a source execution runs on; collected once for a process."""
    with _lock:
        known = _sources.get((file, name))
        if known is None:
            known = _sources[file, name] = collect_source(session, file, name)
        return known


def collect_source(session: Session, file: Path, name: str) -> Source:
    from kitaru.targets import section_of
    from kitaru_registry.snapshots.files import collect
    from kitaru_registry.snapshots.git import read_git
    from kitaru_registry.snapshots.refusals import ALLOWED

    root = session.config.root
    relative = file.relative_to(root).as_posix()
    _, section = section_of(session.config, relative, name)
    git = read_git(root)
    # A folder that is no project may hold anything: there, the modules beside the file are its source.
    is_project = git is not None or session.config.file is not None or (root / "pyproject.toml").is_file()
    include = section.include if is_project else ("/*.py",)
    # Nothing is packed, so nothing is refused.
    collection = collect(root, include=include, exclude=section.exclude, allow=ALLOWED, git=git)
    return Source(
        file=relative,
        entrypoint=f"{relative}:{name}",
        interpreter=sys.executable,
        folder=str(root),
        digest=collection.digest,
        files={item.path: item.sha256 for item in collection.files},
        hash_seed=hash_seed(),
    )


def require_resumable(session: Session, execution: Execution, *, with_edits: bool, command: str = "resume") -> Source:
    """What a source execution is started again on: the files that it began with, unless `with_edits`.

    Args:
        command: that is to do it, for the hint.

    Raises:
        KitaruStateError: it did not come from a file.
        KitaruConflictError: files have changed; they are named.
    """
    source = execution.source
    if source is None:
        raise KitaruStateError(
            f"execution {execution.exec_id} did not come from a file, so it cannot be started again",
            hint="define the flow in a file",
        )
    file = Path(source.folder) / source.file
    now = collect_source(Session(session.home, cwd=file.parent), file, execution.flow)
    if now.digest == source.digest or with_edits:
        return source
    changed = sorted(path for path in {*now.files, *source.files} if now.files.get(path) != source.files.get(path))
    raise KitaruConflictError(
        f"the source of execution {execution.exec_id} has changed since it began: {', '.join(changed[:5])}"
        + (f" and {len(changed) - 5} more" if len(changed) > 5 else ""),
        hint=f"restore them, or go on with the edits: kitaru executions {command} {execution.exec_id} --with-edits",
    )
