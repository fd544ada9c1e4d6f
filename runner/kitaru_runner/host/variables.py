"""Declared environment variables: handed to a runner with the command that makes work, and kept in its memory alone.

Nothing of their values is ever in a file, a log or a message. The door is a socket in the home, which only its owner
can reach; its name is given by way of the folder's descriptor, because a socket's path may have 107 characters at most.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from kitaru_registry.home import Home

LARGEST_BYTES = 1 << 18
REMEMBERED = 10_000


class Variables:
    """What one runner was handed: for an execution; and, for others of its snapshot or flow, what came last."""

    def __init__(self) -> None:
        self._given: dict[str, dict[str, str]] = {}

    def take(self, whose: Iterable[str], values: Mapping[str, str]) -> None:
        for one in whose:
            # Behind all others: what was given longest ago is forgotten first.
            self._given[one] = self._given.pop(one, {}) | dict(values)
        while len(self._given) > REMEMBERED:
            del self._given[next(iter(self._given))]

    def of(self, whose: Iterable[str], names: Iterable[str]) -> dict[str, str]:
        """The values of these names that there are: of the first that has one, or the runner's own."""
        sources = [*(self._given.get(one, {}) for one in whose), os.environ]
        found = {name: next((own[name] for own in sources if name in own), None) for name in names}
        return {name: value for name, value in found.items() if value is not None}


class Door:
    """A runner's end."""

    def __init__(self, home: Home, pid: int) -> None:
        self.path = home.runner / f"{pid}.given"
        self.path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with suppress(OSError), _short(self.path) as name:  # a disk without sockets: nothing is handed over there
            self.socket.bind(name)
            self.path.chmod(0o600)

    def receive(self, variables: Variables) -> bool:
        """Take what has come; whether there was anything."""
        came = False
        while True:
            try:
                said = json.loads(self.socket.recv(LARGEST_BYTES))
            except (BlockingIOError, ValueError):
                return came
            variables.take(said["whose"], said["values"])
            came = True

    def close(self) -> None:
        self.path.unlink(missing_ok=True)
        self.socket.close()


def hand_over(home: Home, whose: Sequence[str], values: Mapping[str, str]) -> bool:
    """Give every runner of the home these values; whether there was one that listens.

    Args:
        whose: an execution's id, its snapshot's digest, its flow: who is to see them.
    """
    message = json.dumps({"whose": whose, "values": dict(values)}).encode()
    heard = False
    for path in home.runner.glob("*.given"):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own, _short(path) as name:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_BYTES)
            own.sendto(message, name)
            heard = True
    return heard


def lacking(pid: int, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the names that the environment of a process has no value of; what it was handed is not looked at."""
    try:
        has = {entry.partition(b"=")[0] for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")}
    except OSError:
        return ()
    return tuple(name for name in names if os.fsencode(name) not in has)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
