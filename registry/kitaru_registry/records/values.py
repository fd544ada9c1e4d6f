"""Values too large for a row, as they are kept: by the sha256 of their bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Stored(NamedTuple):
    digest: bytes
    size: int
    """In bytes."""
    touched_at: float
    """When it was written, or last relied on; in seconds since 1970."""


@dataclass(frozen=True)
class Deletion:
    files: int
    size: int
    """In bytes."""


class Values(Protocol):
    def naming(self) -> AbstractContextManager[None]:
        """Around `put` and the commit of the rows that name what was put: nothing of it is deleted meanwhile."""

    def put(self, data: bytes) -> bytes:
        """The sha256 of the bytes, which last when this returns; the row that names them comes after.

        Raises:
            KitaruUsageError: they are more than this store holds.
            KitaruBackendError: they could not be written.
        """

    def get(self, digest: bytes) -> bytes:
        """The verified bytes.

        Raises:
            KitaruDigestMismatchError: they were changed.
            KitaruBackendError: they are gone.
        """

    def size(self, digest: bytes) -> int:
        """In bytes, as stored; not verified.

        Raises:
            KitaruBackendError: it is gone.
        """

    def names(self) -> Iterator[Stored]:
        """What is stored, in no order."""

    def delete(self, is_named: Callable[[bytes], bool], digests: Iterable[bytes]) -> Deletion | None:
        """Delete those of the values that no row names, while nobody is about to name one.

        None where writers did not pause; nothing was deleted.
        """

    def sweep_partial(self, older_than_seconds: float) -> None:
        """Delete what writers that were killed have left half-written."""
