"""A child as its runner has it: the leader of a process group, which ends with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kitaru_registry.errors import KitaruBackendError


class ChildProcess:
    """Started by the thread that serves it: the kernel ends it with that thread."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: int, given: Sequence[int]
    ) -> None:  # fmt: skip
        """
        Args:
            log: what it prints goes there.
            given: descriptors that it is to have, with their numbers.

        Raises:
            KitaruBackendError: it could not be started.
        """
        self._lock = threading.Lock()
        self._buried = False
        self._over = threading.Event()
        # Whoever holds the other end may outlive the child: with this one they end with the runner, however it ends.
        lifeline, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*command, str(lifeline)], env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, pass_fds=(*given, lifeline), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            os.close(self._lifeline)
            raise KitaruBackendError(f"the child could not be started: {error}", hint="kitaru doctor") from error
        finally:
            os.close(lifeline)

    @property
    def pid(self) -> int:
        return self._process.pid

    def watch(self, ended: Callable[[], None]) -> None:
        """Let its group end as soon as it has, and `ended` be called then, in a thread of its own.

        Its channels do not tell: a process that it has forked may hold them.
        """
        name = f"kitaru-child-{self.pid}"
        try:
            threading.Thread(target=self._await_end, args=(ended,), name=name, daemon=True).start()
        except RuntimeError:  # no thread is to be had
            self.kill()
            self._await_end(ended)

    def _await_end(self, ended: Callable[[], None]) -> None:
        # It stays to be waited for: until then its number is not given to another, and its group can be killed.
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self.kill()
        self._over.set()
        ended()

    def kill(self) -> None:
        """Kill it, and what it has started that did not leave its group."""
        with self._lock:
            if not self._buried:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signal.SIGKILL)

    def has_ended(self, *, within: float) -> bool:
        """Whether it has, or does in so many seconds."""
        return self._over.wait(within)

    def bury(self) -> int:
        """Its exit code, or the negative number of the signal that ended it. Nothing is left of its group."""
        self._over.wait()
        with self._lock:
            code = self._process.wait()
            if not self._buried:
                self._buried = True
                os.close(self._lifeline)
        return code


def end_of_stream(connection: socket.socket, how: int = socket.SHUT_RD) -> None:
    """Whoever reads it sees what has come, and then its end."""
    with suppress(OSError):
        connection.shutdown(how)


def how_it_ended(code: int, running: list[str]) -> str:
    """`killed by SIGKILL in research`"""
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"its process ended with exit code {code}"
    return f"{how} in {', '.join(running)}" if running else how
