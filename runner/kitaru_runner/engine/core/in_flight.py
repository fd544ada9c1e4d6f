"""What a child executes now, in memory that it shares with its runner: to say so costs no message.

The runner looks at its heartbeat, and when the child has died: so a crash can be told by the checkpoint it happened in.
Best effort: what does not fit into a slot, or finds none, is not shown.
"""

from __future__ import annotations

import json
import mmap
import os
import tempfile
import threading
from typing import Any

from kitaru_registry.journal.json_text import compact
from kitaru_runner.engine.core.forking import drop_in_forks, keep

SLOT_BYTES = 256
SLOTS = 256
LENGTH_BYTES = 2


def open_page() -> int:
    """A descriptor of memory for one child."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("kitaru-in-flight")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, SLOTS * SLOT_BYTES)
    return descriptor


class InFlightPage:
    """One side's view. The child writes, the runner reads."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, SLOTS * SLOT_BYTES)
        drop_in_forks(self, self._memory.close)
        self._lock = threading.Lock()
        self._free = list(range(SLOTS - 1, -1, -1))
        self._taken: dict[tuple[str, int], int] = {}

    def begin(self, key: str, name: str, tries: int, at_us: int) -> None:
        """A try begins."""
        said = compact([key, name, tries, at_us]).encode()
        if len(said) > SLOT_BYTES - LENGTH_BYTES:
            return
        with self._lock:
            if not self._free:
                return
            slot = self._taken[key, tries] = self._free.pop()
        at = slot * SLOT_BYTES
        self._memory[at + LENGTH_BYTES : at + LENGTH_BYTES + len(said)] = said
        # The length last: a reader sees all of a slot or nothing.
        self._memory[at : at + LENGTH_BYTES] = len(said).to_bytes(LENGTH_BYTES, "big")

    def end(self, key: str, tries: int) -> None:
        """The outcome of that try is recorded."""
        with self._lock:
            slot = self._taken.pop((key, tries), None)
            if slot is None:
                return
            self._memory[slot * SLOT_BYTES : slot * SLOT_BYTES + LENGTH_BYTES] = b"\0\0"
            self._free.append(slot)

    def read(self) -> list[dict[str, Any]]:
        """What is under way, oldest first, as `executions.in_flight` keeps it; nothing after `close`."""
        with self._lock:
            # One thread of a runner beats, while another closes what its child has left.
            memory = b"" if self._memory.closed else self._memory[:]
        found = []
        for at in range(0, len(memory), SLOT_BYTES):
            length = int.from_bytes(memory[at : at + LENGTH_BYTES], "big")
            if not length:
                continue
            try:
                key, name, tries, at_us = json.loads(memory[at + LENGTH_BYTES : at + LENGTH_BYTES + length])
            except (ValueError, TypeError):
                continue  # it was being written
            found.append({"key": key, "name": name, "tries": tries, "started_us": at_us})
        return sorted(found, key=lambda call: (call["started_us"], call["key"]))

    def close(self) -> None:
        keep(self)
        with self._lock:
            self._memory.close()
