"""What a store of blobs promises, whatever holds the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from kitaru_registry.models import Digest


@dataclass(frozen=True)
class Descriptor:
    """What a blob is called, what it is, and how long. OCI image-spec 1.1, "Content Descriptors"."""

    media_type: str
    digest: Digest
    size: int


class BlobStore(Protocol):
    """Blobs by digest. Whatever is handed out has been compared with its digest first.

    Every reading method raises KitaruNotFoundError for a digest that is not there, and
    KitaruDigestMismatchError, which names it, for one whose bytes have changed.
    """

    def exists(self, blob: Descriptor | Digest) -> bool:
        """Whether it is there, by name, and by size where a descriptor says it. Reads no bytes."""

    def size(self, digest: Digest) -> int:
        """Its length in bytes, as stored; not verified."""

    def push(self, descriptor: Descriptor, content: IO[bytes]) -> None:
        """Store content under its digest; visible whole or not at all, and durable on return.

        Args:
            content: read once to the end; exactly `descriptor.size` bytes.

        Raises:
            KitaruDigestMismatchError: the bytes differ from the descriptor; nothing was stored.

        A blob that is there is touched and left alone, unless its bytes have changed: then it is
        replaced by these. OCI distribution-spec 1.1, "Pushing blobs".
        """

    def fetch(self, digest: Digest) -> bytes:
        """All of its bytes."""

    def open(self, digest: Digest) -> IO[bytes]:
        """An open file at its start, for blobs too large to hold. The caller closes it."""

    def path(self, digest: Digest) -> Path:
        """A file to hand to another program; read it at once, and do not write to it."""

    def touch(self, digest: Digest) -> None:
        """Mark it as needed now, so that a collection of garbage spares it for a day."""
