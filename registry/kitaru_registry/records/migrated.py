"""What `kitaru migrate` has done."""

from __future__ import annotations

from kitaru_registry.models import Record


class Migrated(Record):
    place: str
    """A file, or host, port and name of a database."""
    schema_version: int
    created: bool
    """There was no record there before."""
    before: int | None = None
    """The schema that it had, where that was another."""
