"""A real runner in which one write of an execution ends in SIGKILL. The product itself knows nothing of this.

Every write of an execution is counted: a claim, each row appended to the journal, an opened wait, a park, the end. Rows
that share a commit have a number each, so that the count is the same however they come together. It is the length of a
file, so that several runners of one home share it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Literal

from kitaru_registry.config import RunnerConfig
from kitaru_registry.database.opening import Database, open_database
from kitaru_registry.executions import ending, queue, waits
from kitaru_registry.executions.journal import JournalWriter, Row
from kitaru_registry.home import Home
from kitaru_registry.journal.interface import nothing
from kitaru_runner.host import serving
from kitaru_runner.host.locks import execution_lock
from kitaru_runner.host.worker import Runner

RECORD_BYTES = 32
KILLED = "killed "

Victim = Literal["runner", "child", "both"]
Moment = Literal["before", "after"]


@dataclass(frozen=True)
class Kill:
    """Who is killed at which write, and whether before it or after its commit (and before anybody hears of that)."""

    write: int
    victim: Victim
    moment: Moment

    def __str__(self) -> str:
        return f"{self.victim}-{self.moment}-{self.write}"


class Killer:
    """Carries out one kill."""

    def __init__(self, kill: Kill | None, *, home: Home, exec_id: str, count: Path) -> None:
        self._kill = kill
        self._lock_file = execution_lock(home, exec_id)
        self._count = os.open(count, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._lock = threading.Lock()

    def at_write(self, what: Sequence[str], write: Callable[[], Any]) -> Any:
        """Do the write, and the kill where it is the one."""
        kill, numbers = self._kill, self._note(what)
        if kill is None or kill.write not in numbers:
            return write()
        if kill.moment == "before":
            self._strike(kill.victim)
        done = write()
        if kill.moment == "after":
            self._strike(kill.victim)
        return done

    def _note(self, what: Sequence[str]) -> range:
        """The numbers of these writes, from 1."""
        with self._lock:
            os.write(self._count, "".join(f"{one[: RECORD_BYTES - 1]:<{RECORD_BYTES - 1}}\n" for one in what).encode())
            last = os.lseek(self._count, 0, os.SEEK_CUR) // RECORD_BYTES
        return range(last - len(what) + 1, last + 1)

    def _strike(self, victim: Victim) -> None:
        self._note([KILLED + victim])
        if victim in ("child", "both"):
            child = int(self._lock_file.read_text().split()[0])
            os.kill(child, signal.SIGKILL)
            # Dead for certain, and left for its runner to reap.
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        if victim in ("runner", "both"):
            os.kill(os.getpid(), signal.SIGKILL)


def arm(killer: Killer) -> None:
    """Let every write of an execution in this process pass by the killer."""

    def counted(what: str, write: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(write)
        def at_write(*args: Any, **kwargs: Any) -> Any:
            return killer.at_write([what], lambda: write(*args, **kwargs))

        return at_write

    claim, append = queue.claim, JournalWriter.append

    @wraps(claim)
    def at_claim(database: Database, seen: queue.Candidate, owner: queue.Owner) -> queue.Claim | None:
        # The caller holds the lock of the execution: what is so now is so in the claim's transaction.
        now = queue.candidate(database, seen.exec_id)
        if (now.status, now.attempt) != (seen.status, seen.attempt):
            return claim(database, seen, owner)
        claimed: queue.Claim | None = killer.at_write(["claim"], lambda: claim(database, seen, owner))
        return claimed

    @wraps(append)
    def at_append(
        self: JournalWriter, execution: int, attempt: int, rows: Sequence[Row],
        recorded: Callable[[int], None] = nothing,
    ) -> int:  # fmt: skip
        what = [f"{row.kind}:{row.key}" for row in rows]
        last: int = killer.at_write(what, lambda: append(self, execution, attempt, rows))
        recorded(last)
        return last

    queue.claim = at_claim
    JournalWriter.append = at_append  # type: ignore[method-assign]
    queue.park = counted("park", queue.park)
    ending.finish = counted("finish", ending.finish)
    waits.open_wait = counted("open wait", waits.open_wait)


def run(
    home: Home, *, trace: Path, exec_id: str, count: Path, kill: Kill | None, gate: Path, exit_seconds: float | None
) -> None:
    """Be a runner until SIGTERM, or until the kill. To be the target of a process.

    The pauses between attempts are a hundredth of what they are.

    Args:
        exit_seconds: instead of what a process has at its end.
    """
    os.environ.update(CRASH_TRACE=str(trace), CRASH_GATE=str(gate))
    if exit_seconds is not None:
        serving.EXIT_SECONDS = exit_seconds
    ending.FIRST_PAUSE_SECONDS /= 100
    arm(Killer(kill, home=home, exec_id=exec_id, count=count))
    runner = Runner(home, open_database(home), RunnerConfig(), version="test", local=False)
    signal.signal(signal.SIGTERM, runner.stop)
    runner.run()
    runner.close()
