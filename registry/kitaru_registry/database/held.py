"""Statements that are executed again and again, as text: without what SQLAlchemy does at each execution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy.engine import Dialect as Compiler
from sqlalchemy.sql.expression import ClauseElement


class Texts:
    """Statements in one database's own words, each compiled once. Values are given in the order of their places."""

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler
        self._texts: dict[ClauseElement, str] = {}

    def of(self, statement: ClauseElement) -> str:
        text = self._texts.get(statement)
        if text is None:
            text = self._texts[statement] = str(statement.compile(dialect=self._compiler))
        return text


class Held:
    """A connection of the driver's own, in autocommit mode unless a transaction is open on it. Of one thread at a time.

    Errors are the driver's: `Dialect.explain`.
    """

    def __init__(self, connection: Any, texts: Texts) -> None:
        self.connection = connection
        self._texts = texts

    def rows(self, statement: ClauseElement, *values: object) -> Iterator[tuple[Any, ...]]:
        cursor = self.connection.cursor()
        cursor.execute(self._texts.of(statement), values)
        return iter(cursor)

    def first(self, statement: ClauseElement, *values: object) -> tuple[Any, ...] | None:
        return next(self.rows(statement, *values), None)

    def run(self, statement: ClauseElement, *values: object) -> Any:
        """The cursor, with its `rowcount`."""
        cursor = self.connection.cursor()
        cursor.execute(self._texts.of(statement), values)
        return cursor

    def close(self) -> None:
        self.connection.close()
