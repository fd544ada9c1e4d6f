"""Which runners a home has, how they are woken, and how the local one is started and stopped.

Each runner holds a lock on `runner/PID.lock`, where it says who it is, and listens at the named pipe `runner/PID.wake`
(a pipe, not a socket: a socket's path may have 107 characters at most). The one that is started by itself also
holds `runner/local.lock`, so that a home has at most one of those.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from kitaru_registry.errors import KitaruBackendError, KitaruNotFinishedError, KitaruNotFoundError
from kitaru_registry.home import Home
from kitaru_runner.host.locks import FileLock, holder, is_held

START_SECONDS = 15.0
STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Presence:
    """A runner, as it says of itself."""

    pid: int
    started_us: int
    version: str
    local: bool

    @property
    def owner(self) -> str:
        return f"runner:{self.pid}"


def local_lock(home: Home) -> Path:
    return home.runner / "local.lock"


def stop_mark(home: Home) -> Path:
    return home.runner / "stopped"


def was_stopped(home: Home) -> bool:
    """Whether the last local runner was ended on purpose: it is not started again by those who only look."""
    return stop_mark(home).exists()


def list_runners(home: Home) -> list[Presence]:
    """The runners that live, oldest first."""
    found = []
    for path in home.runner.glob("[0-9]*.lock"):
        # Empty: it has the lock, and has not said yet who it is.
        if said := holder(path):
            found.append(Presence(**json.loads(said)))
    return sorted(found, key=lambda presence: presence.started_us)


def announce(home: Home, presence: Presence) -> FileLock:
    """Let others see this runner for as long as the lock is held."""
    lock = FileLock.acquire(home.runner / f"{presence.pid}.lock")
    if lock is None:
        raise KitaruBackendError(
            f"{home.runner / str(presence.pid)}.lock is held by another process", hint="kitaru runner list"
        )
    lock.write(json.dumps(asdict(presence)))
    return lock


class WakePipe:
    """This runner's end of its pipe."""

    def __init__(self, home: Home, pid: int) -> None:
        self.path = home.runner / f"{pid}.wake"
        self.path.unlink(missing_ok=True)
        os.mkfifo(self.path, 0o600)
        # Read and write: with a writer of our own, the pipe never reports its end.
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def drain(self) -> bool:
        """Whether anybody has written to it since."""
        woken = False
        try:
            while os.read(self.descriptor, 4096):
                woken = True
        except BlockingIOError:
            pass
        return woken

    def close(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def wake(home: Home) -> None:
    """Let every runner of the home look for work now. Those that died are passed over."""
    for path in home.runner.glob("*.wake"):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO and not is_held(path.with_suffix(".lock")):
                path.unlink(missing_ok=True)
                path.with_suffix(".given").unlink(missing_ok=True)
                path.with_suffix(".lock").unlink(missing_ok=True)
            continue
        try:
            os.write(descriptor, b"w")
        except BlockingIOError:
            pass  # a full pipe wakes as well
        finally:
            os.close(descriptor)


def ensure_runner(home: Home, options: Sequence[str] = ()) -> None:
    """See to it that work that is pending gets a runner: wake those there are, or start the local one."""
    if is_held(local_lock(home)) or list_runners(home):
        wake(home)
        return
    start_local(home, options)


def start_local(home: Home, options: Sequence[str] = (), *, stdin: int = subprocess.DEVNULL) -> None:
    """Start the local runner, detached from this process. A no-op where the home has one, or one that is starting.

    Args:
        options: the worker's own (worker.py).
        stdin: with `--on-hold`, a pipe: the runner claims nothing before that ends.
    """
    # It has the lock from its first moment on: whoever looks while it loads its libraries starts no second one.
    lock = FileLock.acquire(local_lock(home))
    if lock is None:
        return
    try:
        command = [sys.executable, "-P", "-m", "kitaru_runner", f"--local={lock.descriptor}", *options]
        start_detached(command, home=home, folder=home.runner, cwd=Path("/"), stdin=stdin, pass_fds=[lock.descriptor])
        _started_here.add(home.root)
    finally:
        lock.release()


_started_here: set[Path] = set()


def started_here(home: Home) -> bool:
    """Whether this process has started a local runner, which has its environment."""
    return home.root in _started_here


def start_detached(
    command: Sequence[str], *, home: Home, folder: Path, cwd: Path, stdin: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (), variables: Mapping[str, str] = MappingProxyType({}),
) -> int:  # fmt: skip
    """Start a process that outlives this one, on the same home; what it prints is added to `folder/log`. Its id.

    Args:
        variables: of its environment, beside those of this process.

    Raises:
        KitaruBackendError: it cannot be started.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    log = -1
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        started = subprocess.Popen(
            command,
            env={**environment, **variables, "KITARU_HOME": str(home.root)},
            cwd=cwd,
            stdin=stdin,
            stdout=log,
            stderr=log,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except OSError as error:
        raise KitaruBackendError(
            f"no process can be started: {error.filename or command[0]}: {error.strerror}", hint="kitaru doctor"
        ) from error
    finally:
        if log >= 0:
            os.close(log)
    # This process never waits for it: no warning about that.
    started.returncode = 0
    return started.pid


def wait_for_runner(home: Home) -> Presence:
    """The local runner, once it has announced itself.

    Raises:
        KitaruBackendError: it did not.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        local = [presence for presence in list_runners(home) if presence.local]
        if local:
            return local[0]
        time.sleep(0.01)
    raise KitaruBackendError("the local runner did not start", hint=f"see {home.runner / 'log'}")


def stop_local(home: Home) -> Presence:
    """End the local runner and its children; what they execute can be resumed.

    Raises:
        KitaruNotFoundError: there is none.
    """
    local = require_local(home)
    os.kill(local.pid, signal.SIGTERM)
    if not has_ended(home, within=STOP_SECONDS):
        raise KitaruBackendError(f"the local runner {local.pid} does not end", hint=f"kill -9 {local.pid}")
    return local


def drain_local(home: Home, *, timeout: float | None) -> Presence:
    """End the local runner as soon as every call has ended that is in flight now; what it executes can be resumed.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruNotFinishedError: after so many seconds some had not; it goes on, and ends when they have.
    """
    local = require_local(home)
    os.kill(local.pid, signal.SIGUSR1)
    if not has_ended(home, within=timeout):
        raise KitaruNotFinishedError(
            f"the local runner {local.pid} still waits for calls to end", hint="kitaru runner list; kitaru runner stop"
        )
    return local


def require_local(home: Home) -> Presence:
    local = [presence for presence in list_runners(home) if presence.local]
    if not local:
        raise KitaruNotFoundError(f"no local runner runs for {home.root}", hint="kitaru runner list")
    return local[0]


def has_ended(home: Home, *, within: float | None) -> bool:
    """Whether it does; it was ended on purpose then."""
    with suppress(OSError):
        stop_mark(home).touch(mode=0o600)
    deadline = None if within is None else time.monotonic() + within
    while is_held(local_lock(home)):
        if deadline is not None and time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
