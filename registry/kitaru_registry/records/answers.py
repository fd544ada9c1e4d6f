"""Answers that programs read, and no person is shown."""

from __future__ import annotations

from kitaru_registry.models import Record, TagMove, Version


class Registered(Record):
    """What came of a deploy, in the record."""

    version: Version
    created: bool
    """False where the digest was a version already: a deploy may be repeated."""
    moves: tuple[TagMove, ...]
    """Of `default` for v1, and of the tag that was asked for."""
