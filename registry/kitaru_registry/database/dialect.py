"""What a database must be able to do to hold the record. One implementation each: sqlite.py, postgres.py."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from sqlalchemy.engine import Connection, Engine

from kitaru_registry.database.held import Held
from kitaru_registry.errors import KitaruBackendError


class Health(NamedTuple):
    """How a database is, in words."""

    ok: bool
    said: str
    hint: str | None = None


@dataclass(frozen=True)
class Scope:
    """What a write is about: nobody else writes to it meanwhile."""

    executions: Collection[int | str] = ()
    """Rows or ids. With an execution goes its family: those that it started, and that started it."""
    flow: str | None = None
    """Of a project, as `project/name`."""


class Changes(Protocol):
    """Whether anybody has committed something that a runner may have to look at."""

    @property
    def descriptor(self) -> int | None:
        """Readable when somebody says so; None where nobody does."""

    def have_come(self) -> bool:
        """Since the last call; True where that cannot be told."""

    def close(self) -> None: ...


class Dialect(Protocol):
    is_own: bool
    """Whether the database is a file of the home: what is in it was written on this machine, by its owner."""
    place: str
    """Where it is, as messages say it; without credentials."""
    reading: dict[str, Any]
    writing: dict[str, Any]
    """SQLAlchemy's options of a connection that reads, and of one that writes."""

    def engine(self) -> Engine: ...

    def prepare(self, engine: Engine) -> KitaruBackendError | None:
        """See that it is of this schema, where that takes no command; why nothing may be written, if that is so.

        Raises:
            KitaruBackendError: it is of a schema that this release does not serve.
        """

    def connect(self) -> Any:
        """A connection of the driver's own, in autocommit mode."""

    def begin(self, connection: Any) -> None:
        """Begin a transaction that writes, on such a connection."""

    def is_in_transaction(self, connection: Any) -> bool: ...

    def scope(self, connection: Connection, scope: Scope | None, *, wait: bool = True) -> bool:
        """From now on to the end of this transaction nobody else writes within the scope (None: anywhere).

        Args:
            wait: for others who write there; else False where there are any.
        """

    def lock_together(self, held: Held, executions: Sequence[int]) -> set[int]:
        """Those of the executions to whose journals one transaction may append without waiting for anybody."""

    def tell(self, connection: Any) -> None:
        """Let runners look, after a commit: on a connection of the driver's own."""

    def explained(self) -> AbstractContextManager[None]:
        """Within this context what the database refuses is an error of ours.

        Raises:
            KitaruUsageError: a value that no column holds.
            KitaruBackendError: the database failed.
        """

    def explain(self, error: BaseException) -> BaseException:
        """The same for one error; itself, where it is none of the database's."""

    def is_of_the_rows(self, error: BaseException) -> bool:
        """Whether it is about what was to be written, and not about where."""

    def is_lost(self, error: BaseException) -> bool:
        """Whether the connection is gone, and with it the answer whether the last commit came to be."""

    def each(self, parameter: str, *, numbers: bool) -> str:
        """A row, `key` (from 0) and `value`, for each member of the JSON list that is bound to that parameter."""

    def begin_erasing(self, connection: Connection) -> None:
        """Let what this transaction deletes leave no bytes behind, as far as that is in the database's hand."""

    def end_erasing(self, connection: Connection) -> None: ...

    def forget_erased(self) -> Sequence[str]:
        """Let go of copies of what was deleted; where some of it stays for now, in words."""

    def changes(self) -> Changes: ...

    def health(self, connection: Connection) -> Health: ...
