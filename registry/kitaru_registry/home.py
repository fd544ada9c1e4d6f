"""The folder that holds everything: `KITARU_HOME`, by default `~/.kitaru`.

    kitaru.db            versions, tags, executions, journals, waits (SQLite)
    layout/              snapshots, an OCI image layout
    values/              values too large for a row, by sha256; values.lock: who writes them
    retention.json       how long each project keeps ended executions, in seconds
    environments/ code/  rebuilt from snapshots at need
    cache/ tools/        rebuilt from the network at need
    executions/ID/       lock and output of one execution
    id                   who it is, where it shares a record with others
    runner/              lock, wake-up pipe, door for variables and log of the local runner

Standard library only.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from kitaru_registry.durable import make_folder
from kitaru_registry.errors import KitaruBackendError

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs", "fuse.sshfs"}
)


OWN = (
    "kitaru.db", "kitaru.db-wal", "kitaru.db-shm", "layout", "values", "retention.json", "environments", "code",
    "cache", "tools", "executions", "runner",
)  # fmt: skip


@dataclass(frozen=True)
class Home:
    root: Path
    record: str | None = None
    """Where its record is: `env:NAME`, `file:PATH` or a URL (record_url); None: in its own file."""
    store: Path | None = None
    """The folder with its snapshots, where it is not its own."""

    @property
    def database(self) -> Path:
        return self.root / "kitaru.db"

    @property
    def layout(self) -> Path:
        return self.store or self.root / "layout"

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
        """Of the local runner: one for each record."""
        if self.record is None and self.store is None:
            return self.root / "runner"
        named = f"{self.record}\0{self.store or ''}".encode(errors="surrogateescape")
        return self.root / f"runner-{sha256(named).hexdigest()[:8]}"

    @property
    def is_own(self) -> bool:
        """Whether this process's user owns it, and its record: what is pickled in it is then one's own."""
        if self.record is not None:
            return False
        try:
            return self.root.stat().st_uid == os.geteuid()
        except OSError:
            return False

    def execution(self, exec_id: str) -> Path:
        return self.root / "executions" / exec_id


def place_of(home: Home) -> str:
    """Who the home is to others that share its record: owners of executions on other machines, or of other homes."""
    host = socket.gethostname()
    if home.record is None:
        return host
    file = home.root / "id"
    try:
        with suppress(FileExistsError):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as made:
                made.write(os.urandom(4).hex())
        return f"{host}#{file.read_text()}"
    except OSError as error:
        raise not_writable(home, error) from error


def default_home() -> Home:
    """The home that `KITARU_HOME` names, else `~/.kitaru`. Creates nothing."""
    named = os.environ.get("KITARU_HOME")
    return Home(Path(named).expanduser().absolute() if named else Path.home() / ".kitaru")


def prepare(home: Home) -> None:
    """Create the home, for its owner alone, and check that it can hold a database.

    Raises:
        KitaruBackendError: not writable, or by others too; or on a network file system, where SQLite's locks fail.
    """
    try:
        make_folder(home.root, mode=0o700)
    except OSError as error:
        raise not_writable(home, error) from error
    refused = why_not_written(home)
    if refused is not None:
        raise refused
    with suppress(OSError):
        make_own(home)
    kind = file_system_of(home.root, Path("/proc/self/mounts"))
    if kind in NETWORK_FILE_SYSTEMS:
        raise KitaruBackendError(
            f"the home {home.root} is on a network file system ({kind}), where SQLite's locks do not hold",
            hint="set KITARU_HOME to a folder on a local disk",
        )


def why_not_written(home: Home) -> KitaruBackendError | None:
    """Why nothing may be written to a home that is there; it can still be looked at. None: it may."""
    try:
        mode = home.root.stat().st_mode
    except OSError:
        return None
    if mode & 0o022:
        return KitaruBackendError(
            f"others may write to the home {home.root} (mode {stat.S_IMODE(mode):o}): what is in it is executed as you",
            hint=f"chmod 700 {home.root}, if nobody has; else set KITARU_HOME to a folder that is yours alone",
        )
    if not os.access(home.root, os.W_OK | os.X_OK):
        return not_writable(home, None)
    if home.database.exists() and not os.access(home.database, os.W_OK):
        return not_writable(Home(home.database), None)
    return None


def make_own(home: Home) -> None:
    """What lies in the home, perhaps since an earlier release, is its owner's alone."""
    for name in OWN:
        path = home.root / name
        if path.exists() and not path.is_symlink() and path.stat().st_mode & 0o077:
            path.chmod(0o700 if path.is_dir() else 0o600)


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
