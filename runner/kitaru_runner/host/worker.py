"""A runner: claims executions, serves their children, keeps their leases.

`python -m kitaru_runner` runs until it is stopped; with `--local` it is the home's one local runner, and ends when
there has been nothing to do for a while.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

from kitaru_registry.clock import now_us
from kitaru_registry.collecting import collect_as_usual
from kitaru_registry.config import RunnerConfig
from kitaru_registry.database.opening import Database, open_database
from kitaru_registry.errors import KitaruBackendError, KitaruError
from kitaru_registry.executions import ending, queue, waits
from kitaru_registry.executions.journal import JournalWriter
from kitaru_registry.home import Home, default_home, place_of, prepare
from kitaru_registry.stores.layout import OciLayout
from kitaru_runner.host.locks import FileLock, execution_lock, is_held
from kitaru_runner.host.looking import Bell
from kitaru_runner.host.place import Place
from kitaru_runner.host.presence import Presence, WakePipe, announce, local_lock, stop_mark
from kitaru_runner.host.retention import Retention
from kitaru_runner.host.serving import Serving
from kitaru_runner.host.variables import Door

IDLE_SECONDS = 0.5
BUSY_SECONDS = 2.0
"""Between two glances at whether something was done that nobody has told of, as a busy runner's own work is."""

BEAT_SECONDS = 1.0
HOLD_SECONDS = 10.0
ACQUIRE = -1
"""Instead of the descriptor of a lock."""


class Runner:
    def __init__(self, home: Home, database: Database, config: RunnerConfig, *, version: str, local: bool) -> None:
        self.home = home
        self.config = config
        self._told = ""
        self._bell = Bell()
        self._place = Place(
            home, database, JournalWriter(database), OciLayout(home.layout), lease_seconds=config.lease_seconds,
            ring=self._bell.ring, tell=self._tell,
        )  # fmt: skip
        self.presence = Presence(os.getpid(), now_us(), version, local)
        self._owner = queue.Owner(self.presence.owner, os.getpid(), place_of(home), config.lease_seconds)
        self._serving: dict[str, tuple[Serving, threading.Thread]] = {}
        self._retention = Retention(database)
        self._changes = database.changes()
        self._listening: int | None = None
        # Executions that others execute, or have executed.
        self._of_others: list[queue.Candidate] = []
        self._next_due_us: int | None = None
        self._look_at = self._glance_at = 0.0
        self._stopping = self._draining = False

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Stop after the present turn: children are ended, and their executions can be claimed at once."""
        self._stopping = True
        self._bell.ring()

    def drain(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Claim nothing more, let the calls that are in flight end, and stop when they have."""
        self._draining = True
        self._bell.ring()

    def run(self) -> None:
        """Work until stopped; the local runner also until there has been nothing to do for `idle_seconds`."""
        announced = announce(self.home, self.presence)
        try:
            pipe, door = WakePipe(self.home, self.presence.pid), Door(self.home, self.presence.pid)
            try:
                self._work(pipe, door)
            finally:
                self._end_all()
                pipe.close()
                door.close()
        finally:
            announced.release(remove=True)

    def _work(self, pipe: WakePipe, door: Door) -> None:
        poll = select.poll()
        poll.register(door.socket, select.POLLIN)
        poll.register(pipe.descriptor, select.POLLIN)
        poll.register(self._bell.descriptor, select.POLLIN)
        busy_at = beat_at = time.monotonic()
        self._look_at = self._glance_at = busy_at
        while not self._stopping:
            self._reap()
            now = time.monotonic()
            if now >= self._look_at or (now >= self._glance_at and self._is_other_than_seen()):
                self._look()
            if self._draining:
                self._of_each(Serving.drain)
                if not self._serving:
                    return
            if self._serving:
                busy_at = now
            elif self.presence.local and now - busy_at > self.config.idle_seconds and self._next_due_us is None:
                return
            if now - beat_at >= BEAT_SECONDS:
                beat_at = now
                self._of_each(Serving.beat)
            self._of_each(Serving.tick)
            self._listen(poll)
            if any(found == self._listening for found, _ in poll.poll(1_000 * self._pause_seconds(beat_at))):
                self._glance_at = 0.0
            # Each, so that none is left to wake the next turn.
            if pipe.drain() | self._bell.silence() | door.receive(self._place.variables):
                self._look_at = 0.0

    def _listen(self, poll: select.poll) -> None:
        """Wake up when somebody calls from another machine; the connection over which they do may be another by now."""
        now = self._changes.descriptor
        if now != self._listening:
            if self._listening is not None:
                with suppress(KeyError):
                    poll.unregister(self._listening)
            if now is not None:
                poll.register(now, select.POLLIN)
            self._listening = now

    def _look(self) -> None:
        """Take up what there is to do, and see when there will be more. A disk that fails may be better in a moment."""
        self._look_at = float("inf")
        for step in (self._fire_times, self._claim_all, self._cancel_requested, self._hear, self._see_what_is_due):
            try:
                step()
            except (KitaruError, OSError) as error:
                self._tell(str(error))
                self._look_at = time.monotonic() + IDLE_SECONDS
        self._glance_later()

    def _is_other_than_seen(self) -> bool:
        """Whether anybody has written, or an execution that another process had has lost it."""
        self._glance_later()
        with suppress(KitaruError, OSError):
            self._retention.apply()
        is_due = self._next_due_us is not None and self._next_due_us <= now_us()
        return is_due or any(map(self._is_left, self._of_others)) or self._changes.have_come()

    def _glance_later(self) -> None:
        self._glance_at = time.monotonic() + (BUSY_SECONDS if self._serving else IDLE_SECONDS)

    def _is_left(self, seen: queue.Candidate) -> bool:
        """Whether nobody can have it any more: nobody on this host, or nobody within its lease."""
        if queue.is_elsewhere(seen, self._owner.host):
            return False
        try:
            return not is_held(execution_lock(self.home, seen.exec_id))
        except OSError:
            return False

    def _fire_times(self) -> None:
        """End the sleeps, waits and executions whose time has come."""
        waits.fire_due(self._place.database)
        ending.end_late(self._place.database)

    def _cancel_requested(self) -> None:
        """Not by heartbeat: whoever cancels has woken this runner, and a flow may cost money for as long as it runs."""
        if not self._serving:
            return
        for exec_id in ending.cancel_requests(self._place.database):
            if exec_id in self._serving:
                self._serving[exec_id][0].cancel()

    def _hear(self) -> None:
        for serving, _ in list(self._serving.values()):
            serving.hear()

    def _see_what_is_due(self) -> None:
        self._next_due_us = queue.next_due_us(self._place.database)

    def _of_each(self, what: Callable[[Serving], None]) -> None:
        for serving, _ in list(self._serving.values()):
            try:
                what(serving)
            except (KitaruError, OSError) as error:
                self._tell(str(error))

    def _pause_seconds(self, beat_at: float) -> float:
        """Until the next turn, of which nobody tells."""
        now = time.monotonic()
        at = [self._look_at, self._glance_at]
        if self._serving:
            at += [beat_at + BEAT_SECONDS, *(serving.kill_at for serving, _ in list(self._serving.values()))]
        due = [self._next_due_us, *(serving.next_deadline_us for serving, _ in list(self._serving.values()))]
        # What is due and could not be claimed is looked at with the next glance, not at once.
        left = [(at_us - now_us()) / 1_000_000 for at_us in due if at_us is not None and at_us > now_us()]
        if left:
            self._look_at = min(self._look_at, now + min(left))
            at.append(self._look_at)
        return max(0.0, min(at) - now)

    def _claim_all(self) -> None:
        found = [seen for seen in queue.claimable(self._place.database) if seen.exec_id not in self._serving]
        self._of_others = [seen for seen in found if seen.status == "running"]
        for seen in found:
            if len(self._serving) >= self.config.max_executions or self._stopping or self._draining:
                break
            self._claim(seen)

    def _claim(self, seen: queue.Candidate) -> bool:
        """Serve the execution, if nobody on this host does. A running one whose lock is free has lost its owner."""
        if seen.status == "running" and not self._is_left(seen):
            return False
        lock = FileLock.acquire(execution_lock(self.home, seen.exec_id))
        if lock is None:
            return False
        try:
            claim = queue.claim(self._place.database, seen, self._owner)
        except BaseException:
            lock.release()
            raise
        if claim is None:
            lock.release()
            return False
        lock.write(f"runner {os.getpid()}")
        serving = Serving(self._place, claim, lock)
        # Not a daemon: a child's life hangs on the thread that started it.
        thread = threading.Thread(target=self._serve, args=(serving,), name=f"kitaru-{claim.exec_id[-6:]}")
        try:
            thread.start()
        except RuntimeError as error:
            serving.leave(KitaruBackendError(f"the runner cannot start a thread: {error}", hint="ulimit -u"))
            return False
        self._serving[claim.exec_id] = (serving, thread)
        return True

    def _serve(self, serving: Serving) -> None:
        try:
            serving.run()
        finally:
            # Its slot is free for another.
            self._bell.ring()

    def _tell(self, message: str) -> None:
        """In the runner's log, once: a disk that is full now may have space in a moment, and this runner goes on."""
        if message != self._told:
            with suppress(OSError):
                print(f"kitaru: {message}", file=sys.stderr, flush=True)
        self._told = message

    @property
    def is_to_end(self) -> bool:
        return self._stopping or self._draining

    def _nothing_due(self) -> bool:
        try:
            return queue.next_due_us(self._place.database) is None
        except KitaruBackendError:
            return True

    def _reap(self) -> None:
        for exec_id, (_, thread) in list(self._serving.items()):
            if not thread.is_alive():
                thread.join()
                del self._serving[exec_id]

    def _end_all(self) -> None:
        for serving, _ in self._serving.values():
            serving.give_up("its runner was stopped")
        for _, thread in self._serving.values():
            thread.join()
        self._serving.clear()

    def close(self) -> None:
        self._bell.close()
        self._changes.close()
        self._place.writer.close()
        self._place.database.close()


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
    with suppress(OSError):
        stop_mark(home).unlink(missing_ok=True)
    runner = Runner(home, open_database(home, synchronous=synchronous), config, version=version, local=local)
    signal.signal(signal.SIGTERM, runner.stop)
    signal.signal(signal.SIGINT, runner.stop)
    signal.signal(signal.SIGUSR1, runner.drain)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        if on_hold:
            select.select([sys.stdin], [], [], HOLD_SECONDS)
        while True:
            runner.run()
            if lock is not None:
                lock.release()
            # Whoever made work pending while the lock was still held counted on this runner.
            if not local or runner.is_to_end or runner._nothing_due():
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
    parser.add_argument("--record", help="env:NAME, file:PATH or a URL: the database with the home's record")
    parser.add_argument("--store", type=Path, help="the folder with the home's snapshots")
    parser.add_argument("--on-hold", action="store_true", help="begin when stdin ends")
    given = parser.parse_args()
    config = RunnerConfig(
        max_executions=given.max_executions, idle_seconds=given.idle_seconds, lease_seconds=given.lease_seconds
    )
    home, lock = replace(default_home(), record=given.record, store=given.store), None
    if given.local is not None and given.local != ACQUIRE:
        lock = FileLock.inherit(local_lock(home), given.local)
    try:
        run_runner(
            home, config, version=version("kitaru"), local=given.local is not None, synchronous=given.synchronous,
            on_hold=given.on_hold, lock=lock,
        )  # fmt: skip
    except KitaruError as error:
        sys.exit(f"kitaru: {error.message}")
    except OSError as error:
        sys.exit(f"kitaru: {error.filename or home.root} cannot be used: {error.strerror or error}")
