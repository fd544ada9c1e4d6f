"""A runner: claims executions, serves their children, keeps their leases.

`python -m kitaru_runner` runs until it is stopped; with `--local` it is the home's one local runner, and ends when
there has been nothing to do for a while.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import sys
import threading
import time
from types import FrameType

from kitaru_registry.clock import now_us
from kitaru_registry.collecting import collect_as_usual
from kitaru_registry.config import RunnerConfig
from kitaru_registry.database import Database, open_database
from kitaru_registry.errors import KitaruBackendError, KitaruError
from kitaru_registry.executions import ending, queue, waits
from kitaru_registry.executions.journal import JournalWriter
from kitaru_registry.home import Home, default_home, prepare
from kitaru_registry.stores.layout import OciLayout
from kitaru_runner.locks import FileLock, execution_lock
from kitaru_runner.presence import Presence, WakePipe, announce, local_lock
from kitaru_runner.retention import Retention
from kitaru_runner.serving import Place, Serving

POLL_SECONDS = 0.5
ANSWER_SECONDS = 0.1
BEAT_SECONDS = 1.0
HOLD_SECONDS = 10.0
ACQUIRE = -1
"""Instead of the descriptor of a lock."""


class Runner:
    def __init__(self, home: Home, database: Database, config: RunnerConfig, *, version: str, local: bool) -> None:
        self.home = home
        self.config = config
        lease = config.lease_seconds
        self._place = Place(home, database, JournalWriter(database), OciLayout(home.layout), lease_seconds=lease)
        self.presence = Presence(os.getpid(), now_us(), version, local)
        self._owner = queue.Owner(self.presence.owner, os.getpid(), socket.gethostname(), lease)
        self._serving: dict[str, tuple[Serving, threading.Thread]] = {}
        self._retention = Retention(database)
        self._stopping = False
        self._told = ""

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Stop after the present turn: children are ended, and their executions can be claimed at once."""
        self._stopping = True

    def run(self) -> None:
        """Work until stopped; the local runner also until there has been nothing to do for `idle_seconds`."""
        announced = announce(self.home, self.presence)
        pipe = WakePipe(self.home, self.presence.pid)
        try:
            self._work(pipe)
        finally:
            self._end_all()
            pipe.close()
            announced.release(remove=True)

    def _work(self, pipe: WakePipe) -> None:
        busy_at = beat_at = time.monotonic()
        while not self._stopping:
            self._reap()
            self._fire_times()
            claimed = self._claim_all()
            now = time.monotonic()
            if self._serving or claimed:
                busy_at = now
            elif self.presence.local and now - busy_at > self.config.idle_seconds and self._nothing_due():
                return
            if now - beat_at >= BEAT_SECONDS:
                beat_at = now
                for serving, _ in list(self._serving.values()):
                    serving.beat()
            self._cancel_requested()
            for serving, _ in list(self._serving.values()):
                serving.tick()
            try:
                select.select([pipe.descriptor], [], [], self._pause_seconds())
            except InterruptedError:
                continue
            pipe.drain()

    def _fire_times(self) -> None:
        """End the sleeps, waits and executions whose time has come."""
        try:
            waits.fire_due(self._place.database)
            ending.end_late(self._place.database)
            self._retention.apply()
        except KitaruBackendError:
            pass  # a full disk may have room at the next turn

    def _cancel_requested(self) -> None:
        """Not by heartbeat: whoever cancels has woken this runner, and a flow may cost money for as long as it runs."""
        if not self._serving:
            return
        for exec_id in ending.cancel_requests(self._place.database):
            if exec_id in self._serving:
                self._serving[exec_id][0].cancel()

    def _pause_seconds(self) -> float:
        """How long nothing can be due that nobody wakes this runner for."""
        longest = ANSWER_SECONDS if self._serving else POLL_SECONDS
        due = [queue.next_due_us(self._place.database)]
        due += [serving.next_deadline_us for serving, _ in list(self._serving.values())]
        left = min((at - now_us() for at in due if at is not None), default=None)
        # Not at once: what is due and cannot be claimed now is due at every turn.
        return longest if left is None or left <= 0 else min(longest, left / 1_000_000)

    def _claim_all(self) -> bool:
        claimed = False
        for seen in queue.claimable(self._place.database):
            if len(self._serving) >= self.config.max_executions or self._stopping:
                break
            if seen.exec_id not in self._serving:
                claimed = self._claim(seen) or claimed
        return claimed

    def _claim(self, seen: queue.Candidate) -> bool:
        """Serve the execution, if nobody on this host does. A running one whose lock is free has lost its owner."""
        if seen.status == "running" and seen.owner_host != self._owner.host and not lease_over(seen):
            return False
        lock = FileLock.acquire(execution_lock(self.home, seen.exec_id))
        if lock is None:
            return False
        try:
            claim = queue.claim(self._place.database, seen, self._owner)
        except KitaruBackendError as error:
            self._tell(error)
            claim = None
        if claim is None:
            lock.release()
            return False
        lock.write(f"runner {os.getpid()}")
        serving = Serving(self._place, claim, lock)
        # Not a daemon: a child's life hangs on the thread that started it.
        thread = threading.Thread(target=serving.run, name=f"kitaru-{claim.exec_id[-6:]}")
        self._serving[claim.exec_id] = (serving, thread)
        thread.start()
        return True

    def _tell(self, error: KitaruError) -> None:
        """In the runner's log, once: a disk that is full now may have space in a moment, and this runner goes on."""
        if error.message != self._told:
            print(f"kitaru: {error.message}", file=sys.stderr, flush=True)
        self._told = error.message

    def _nothing_due(self) -> bool:
        return queue.next_due_us(self._place.database) is None

    def _reap(self) -> None:
        for exec_id, (_, thread) in list(self._serving.items()):
            if not thread.is_alive():
                thread.join()
                del self._serving[exec_id]

    def _end_all(self) -> None:
        for serving, _ in self._serving.values():
            serving.end("its runner was stopped")
        for _, thread in self._serving.values():
            thread.join()
        self._serving.clear()

    def close(self) -> None:
        self._place.writer.close()
        self._place.database.close()


def lease_over(seen: queue.Candidate) -> bool:
    return seen.lease_until_us is None or seen.lease_until_us < now_us()


def run_runner(
    home: Home, config: RunnerConfig, *, version: str, local: bool, synchronous: str = "FULL", on_hold: bool = False,
    lock: FileLock | None = None,
) -> bool:  # fmt: skip
    """Run a runner in this process. False where it was to be the local one, and the home has one.

    Args:
        on_hold: begin when stdin ends: whoever started it has something to look at first, as nobody has it.
        lock: the local runner's, where this process was given it.
    """
    prepare(home)
    if local and lock is None:
        lock = FileLock.acquire(local_lock(home))
        if lock is None:
            return False
    runner = Runner(home, open_database(home, synchronous=synchronous), config, version=version, local=local)
    signal.signal(signal.SIGTERM, runner.stop)
    signal.signal(signal.SIGINT, runner.stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        if on_hold:
            select.select([sys.stdin], [], [], HOLD_SECONDS)
        while True:
            runner.run()
            if lock is not None:
                lock.release()
            # Whoever made work pending while the lock was still held counted on this runner.
            if not local or runner._stopping or runner._nothing_due():
                return True
            lock = FileLock.acquire(local_lock(home))
            if lock is None:
                return True
    finally:
        runner.close()


def main() -> None:
    from importlib.metadata import version

    collect_as_usual()
    defaults = RunnerConfig()
    parser = argparse.ArgumentParser(prog="python -m kitaru_runner", description="Run a runner of KITARU_HOME.")
    parser.add_argument(
        "--local", nargs="?", type=int, const=ACQUIRE, metavar="DESCRIPTOR",
        help="be the home's one local runner; the descriptor is its lock, where whoever started it has that",
    )  # fmt: skip
    parser.add_argument("--max-executions", type=int, default=defaults.max_executions)
    parser.add_argument("--idle-seconds", type=int, default=defaults.idle_seconds)
    parser.add_argument("--lease-seconds", type=int, default=defaults.lease_seconds)
    parser.add_argument("--synchronous", choices=("FULL", "NORMAL"), default="FULL")
    parser.add_argument("--on-hold", action="store_true", help="begin when stdin ends")
    given = parser.parse_args()
    config = RunnerConfig(
        max_executions=given.max_executions, idle_seconds=given.idle_seconds, lease_seconds=given.lease_seconds
    )
    home, lock = default_home(), None
    if given.local is not None and given.local != ACQUIRE:
        lock = FileLock.inherit(local_lock(home), given.local)
    try:
        run_runner(
            home, config, version=version("kitaru"), local=given.local is not None, synchronous=given.synchronous,
            on_hold=given.on_hold, lock=lock,
        )  # fmt: skip
    except KitaruError as error:
        sys.exit(f"kitaru: {error.message}")
