"""The folder that holds everything: `KITARU_HOME`, by default `~/.kitaru`.

    kitaru.db            versions, tags, executions, journals, waits (SQLite)
    layout/              snapshots, an OCI image layout
    values/              values too large for a row, by sha256
    environments/ code/  rebuilt from snapshots at need
    cache/ tools/        rebuilt from the network at need
    executions/ID/       lock and output of one execution
    runner/              lock, wake-up pipe and log of the local runner

Standard library only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kitaru_registry.durable import make_folder
from kitaru_registry.errors import KitaruBackendError

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs", "fuse.sshfs"}
)


@dataclass(frozen=True)
class Home:
    root: Path

    @property
    def database(self) -> Path:
        return self.root / "kitaru.db"

    @property
    def layout(self) -> Path:
        return self.root / "layout"

    @property
    def values(self) -> Path:
        return self.root / "values"

    @property
    def environments(self) -> Path:
        return self.root / "environments"

    @property
    def code(self) -> Path:
        return self.root / "code"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def tools(self) -> Path:
        return self.root / "tools"

    @property
    def runner(self) -> Path:
        return self.root / "runner"

    def execution(self, exec_id: str) -> Path:
        return self.root / "executions" / exec_id


def default_home() -> Home:
    """The home that `KITARU_HOME` names, else `~/.kitaru`. Creates nothing."""
    named = os.environ.get("KITARU_HOME")
    return Home(Path(named).expanduser().absolute() if named else Path.home() / ".kitaru")


def prepare(home: Home) -> None:
    """Create the home, readable by its owner alone, and check that it can hold a database.

    Raises:
        KitaruBackendError: not writable, or on a network file system, where SQLite's locks do not hold.
    """
    try:
        make_folder(home.root, mode=0o700)
    except OSError as error:
        raise not_writable(home, error) from error
    if not os.access(home.root, os.W_OK | os.X_OK):
        raise not_writable(home, None)
    kind = file_system_of(home.root, Path("/proc/self/mounts"))
    if kind in NETWORK_FILE_SYSTEMS:
        raise KitaruBackendError(
            f"the home {home.root} is on a network file system ({kind}), where SQLite's locks do not hold",
            hint="set KITARU_HOME to a folder on a local disk",
        )


def not_writable(home: Home, error: OSError | None) -> KitaruBackendError:
    detail = f": {error.strerror}" if error else ""
    return KitaruBackendError(
        f"the home {home.root} is not writable{detail}", hint="set KITARU_HOME to a folder that you own"
    )


def file_system_of(path: Path, mounts: Path) -> str | None:
    """The type of the file system that holds `path`, from a mount table; None where there is no table."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    best: tuple[int, str] | None = None
    resolved = path.resolve()
    for line in lines:
        fields = line.split()
        mount = Path(fields[1].encode().decode("unicode_escape"))
        if resolved.is_relative_to(mount) and (best is None or len(mount.parts) >= best[0]):
            best = (len(mount.parts), fields[2])
    return best[1] if best else None
