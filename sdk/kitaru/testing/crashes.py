"""The end of an execution's process, at a write that a test chooses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.journal.entries import Answer, ChildRequest, Encoded, Entry, Loaded, Outcome, WaitRequest
from kitaru_registry.journal.interface import Journal, Recorded, nothing
from kitaru_runner.values.failures import ProcessEnded

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Crash:
    """An attempt's process ends at its n-th write: before that is durable, or right after, before anybody hears."""

    write: int
    after: bool = False
    every_call: bool = False
    """Count each call that changes the record, opened waits and parking too; not only entries and the end."""

    def __post_init__(self) -> None:
        if not isinstance(self.write, int) or isinstance(self.write, bool) or self.write < 1:
            raise KitaruUsageError(f"crash_at({self.write!r}) is no write", hint="give a number: the first write is 1")

    def __str__(self) -> str:
        return f"testing.crash_at({self.write}{', after=True' if self.after else ''})"


def crash_at(write: int, *, after: bool = False) -> Crash:
    """The end of an attempt's process, as by SIGKILL, at its n-th write.

    A write is an entry of the journal, or the end of the execution, which is the last.

    Args:
        write: from 1 on; those of the attempt alone are counted.
        after: right after it is durable, before the flow hears of it; by default it is lost.

    Raises:
        KitaruUsageError: there is no such write.
    """
    return Crash(write, after)


class EndingJournal:
    """The real journal, up to the write at which its process is to end. From then on nothing is written.

    Args:
        crash: None: it goes on until it parks for good.
        stays: whether the process stays when it parks.
        at_end: called once, when the process ends.
    """

    def __init__(
        self, journal: Journal, *, crash: Crash | None = None, stays: bool = False,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._journal = journal
        self._crash = crash
        self._stays = stays
        self._at_end = at_end
        self._lock = threading.Lock()
        self.writes = 0
        self.ended = False
        self.crashed = False
        self.asked = threading.Event()
        self.parked = threading.Event()

    def living(self) -> None:
        """
        Raises:
            ProcessEnded: the process has ended.
        """
        if self.ended:
            raise ProcessEnded

    def end(self) -> None:
        """The process ends here."""
        if not self.ended:
            self.ended = True
            self._at_end()
        raise ProcessEnded

    def record(self, entries: Sequence[Entry], recorded: Recorded = nothing) -> int:
        last = self._write(len(entries), lambda: self._journal.record(entries))
        recorded(last)
        return last

    def child(self, request: ChildRequest) -> tuple[str, int]:
        return self._write(1, lambda: self._journal.child(request))

    def stop(self, key: str) -> None:
        self._write(1, lambda: self._journal.stop(key))

    def finish(self, outcome: Outcome) -> bool:
        return self._write(1, lambda: self._journal.finish(outcome))

    def open_wait(self, wait: WaitRequest) -> Answer | None:
        answer = self._call(lambda: self._journal.open_wait(wait))
        self.asked.set()
        return answer

    def park(self) -> bool:
        must_end = self._call(self._journal.park)
        if must_end or self.is_parked:
            self.parked.set()
            if not self._stays:
                self.end()
        return must_end

    @property
    def is_parked(self) -> bool:
        return bool(getattr(self._journal, "parked", False))

    def started(self, key: str, name: str, tries: int, at_us: int) -> None:
        self.living()
        self._journal.started(key, name, tries, at_us)

    def value(self, entry: Entry) -> Encoded:
        self.living()
        return self._journal.value(entry)

    def load(self, exec_id: str, name: str, index: int | None = None) -> Loaded:
        self.living()
        return self._journal.load(exec_id, name, index)

    def cached(self, key: bytes) -> tuple[Encoded, str] | None:
        self.living()
        return self._journal.cached(key)

    def attend(self, exec_id: str) -> None:
        self.living()
        self._journal.attend(exec_id)

    def outcome(self, exec_id: str) -> Outcome:
        self.living()
        return self._journal.outcome(exec_id)

    def __getattr__(self, name: str) -> Any:
        # What a journal of another part offers beside the protocol.
        return getattr(self._journal, name)

    def _call(self, write: Callable[[], T]) -> T:
        if self._crash is not None and self._crash.every_call:
            return self._write(1, write)
        self.living()
        return write()

    def _write(self, count: int, write: Callable[[], T]) -> T:
        with self._lock:
            self.living()
            self.writes += count
            crash = self._crash
            if crash is not None and self.writes >= crash.write and not crash.after:
                self.crashed = True
                self.end()
            done = write()
            if crash is not None and self.writes >= crash.write:
                self.crashed = True
                self.end()
            return done
