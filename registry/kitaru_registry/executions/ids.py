"""Execution ids: UUIDs of version 7 (RFC 9562, section 5.7), which sort by creation time."""

from __future__ import annotations

import os
import time
from uuid import UUID

from kitaru_registry.models import ExecutionId


def new_execution_id() -> ExecutionId:
    return ExecutionId(str(uuid7(time.time_ns() // 1_000_000, os.urandom(10))))


def uuid7(milliseconds: int, randomness: bytes) -> UUID:
    """The UUID of a time, milliseconds since 1970, and ten random bytes."""
    value = (milliseconds & (1 << 48) - 1) << 80 | int.from_bytes(randomness, "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)
