"""Large values in the database itself, in pieces, for a record that several machines share.

As with files: the pieces are there before the row that names them. Until that row is committed its writer holds a
shared lock of the server's; whoever deletes values holds it alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from typing import Any

from sqlalchemy import bindparam, delete, func, literal_column, select, text, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from kitaru_registry.clock import now_us
from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import value_chunks
from kitaru_registry.errors import KitaruBackendError, KitaruDigestMismatchError, KitaruUsageError
from kitaru_registry.records.values import Deletion, Stored

LARGEST_BYTES = 64 << 20
CHUNK_BYTES = 1 << 20
PATIENCE_SECONDS = 5.0
NAMING = 0x6B697476

PIECES = select(value_chunks.c.data).where(value_chunks.c.digest == bindparam("digest")).order_by(value_chunks.c.number)
SIZE = select(value_chunks.c.size).where(
    value_chunks.c.digest == bindparam("digest"), value_chunks.c.number == literal_column("0")
)


class Naming(threading.local):
    """The lock of a thread that names values, from its first value to the end of its outermost context."""

    depth = 0
    connection: Any = None

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *raised: object) -> None:
        self.depth -= 1
        if not self.depth and self.connection is not None:
            connection, self.connection = self.connection, None
            try:
                connection.execute(text("SELECT pg_advisory_unlock_shared(:key)"), {"key": NAMING})
                connection.commit()
            except SQLAlchemyError:
                connection.invalidate()  # with the session its lock is gone
            connection.close()


class ChunkedValues:
    """See Values."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._naming = Naming()

    def naming(self) -> AbstractContextManager[None]:
        return self._naming

    def put(self, data: bytes) -> bytes:
        if len(data) > LARGEST_BYTES:
            raise KitaruUsageError(
                f"a value of {len(data):,} bytes is too large for the record in {self._database.dialect.place}: "
                f"{LARGEST_BYTES:,} bytes are the most",
                hint="keep it where it belongs, such as a bucket, and return its address",
            )
        digest = sha256(data).digest()
        if self._naming.depth and self._naming.connection is None:
            with self._database.dialect.explained():
                self._naming.connection = self._database.engine.connect()
                self._naming.connection.execute(text("SELECT pg_advisory_lock_shared(:key)"), {"key": NAMING})
                self._naming.connection.commit()
        with self._database.dialect.explained():
            try:
                self._write(digest, data)
            except IntegrityError:
                self._touch(digest)  # another writer was faster
        return digest

    def _write(self, digest: bytes, data: bytes) -> None:
        with self._database.engine.connect() as connection, connection.begin():
            if self._touch_on(connection, digest):
                return
            pieces = [
                {"digest": digest, "number": number, "data": data[at : at + CHUNK_BYTES]}
                for number, at in enumerate(range(0, len(data), CHUNK_BYTES))
            ]
            sized = [{**piece, "size": None, "touched_us": None} for piece in pieces]
            sized[0] |= {"size": len(data), "touched_us": now_us()}
            connection.execute(value_chunks.insert(), sized)

    def _touch(self, digest: bytes) -> None:
        with self._database.engine.connect() as connection, connection.begin():
            self._touch_on(connection, digest)

    def _touch_on(self, connection: Any, digest: bytes) -> bool:
        first = update(value_chunks).where(value_chunks.c.digest == digest, value_chunks.c.number == 0)
        return bool(connection.execute(first.values(touched_us=now_us())).rowcount)

    def get(self, digest: bytes) -> bytes:
        with self._database.read() as connection:
            pieces = connection.execute(PIECES, {"digest": digest}).scalars().all()
        if not pieces:
            raise self._gone(digest)
        data = b"".join(pieces)
        if sha256(data).digest() != digest:
            raise KitaruDigestMismatchError(f"sha256:{digest.hex()}", self._database.dialect.place)
        return data

    def size(self, digest: bytes) -> int:
        found = self._database.first(SIZE, digest)
        if found is None:
            raise self._gone(digest)
        return int(found[0])

    def names(self) -> Iterator[Stored]:
        wanted = select(value_chunks.c.digest, value_chunks.c.size, value_chunks.c.touched_us)
        with self._database.read() as connection:
            found = connection.execute(wanted.where(value_chunks.c.number == 0)).all()
        return (Stored(row.digest, row.size, row.touched_us / 1_000_000) for row in found)

    def delete(self, is_named: Callable[[bytes], bool], digests: Iterable[bytes]) -> Deletion | None:
        with self._alone() as connection:
            if connection is None:
                return None
            files = size = 0
            for digest in digests:
                if is_named(digest):
                    continue
                known = connection.execute(SIZE, {"digest": digest}).scalar_one_or_none()
                if known is not None:
                    connection.execute(delete(value_chunks).where(value_chunks.c.digest == digest))
                    files, size = files + 1, size + known
            return Deletion(files, size)

    @contextmanager
    def _alone(self) -> Iterator[Any]:
        """A transaction while nobody is about to name a value; None where writers did not pause."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._database.dialect.explained(), self._database.engine.connect() as connection, connection.begin():
            while not connection.execute(select(func.pg_try_advisory_xact_lock(NAMING))).scalar_one():
                if time.monotonic() > deadline:
                    yield None
                    return
                time.sleep(0.01)
            yield connection

    def sweep_partial(self, older_than_seconds: float) -> None:
        """A value's pieces are written together."""

    def _gone(self, digest: bytes) -> KitaruBackendError:
        return KitaruBackendError(
            f"the value sha256:{digest.hex()} is not in {self._database.dialect.place}",
            hint="restore it from a backup of the database",
        )
