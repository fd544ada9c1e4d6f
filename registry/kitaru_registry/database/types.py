"""What tables and queries say that each database says in words of its own: numbers, texts, documents, and looks into
these. How each is said stands with the dialect (sqlite.py, postgres.py)."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, LargeBinary, String, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.types import TypeDecorator, TypeEngine

Number = Integer().with_variant(BigInteger(), "postgresql")
"""64 bits: times are microseconds."""

Words = String().with_variant(String(collation="C"), "postgresql")
"""Text that is sorted and compared by its bytes, whatever the language of the server."""


class Bytes(LargeBinary):
    """Bytes. Where a statement gives them to a column by a selection, their type has to be said, or NULL has none."""

    render_bind_cast = True
    cache_ok = True


class Ascii(TypeDecorator[Any]):
    """A JSON document as ASCII text.

    PostgreSQL's own JSON types hold neither a NUL nor a lone surrogate, which a user's values may. Written as escapes
    both are plain ASCII.
    """

    impl = Text
    cache_ok = True

    def __init__(self, none_as_null: bool = False) -> None:
        super().__init__()
        self._none_as_null = none_as_null

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None and self._none_as_null else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


def document(*, nullable: bool = False) -> TypeEngine[Any]:
    """JSON. Nullable: None is no document, else it is `null`."""
    return JSON(none_as_null=nullable).with_variant(Ascii(none_as_null=nullable), "postgresql")


class AtPlace(FunctionElement[Any]):
    """What stands at a place of a document; the place is of the statement, as a column's name is."""

    _traverse_internals = [*FunctionElement._traverse_internals, ("path", InternalTraversal.dp_plain_obj)]  # noqa: RUF012
    inherit_cache = True

    def __init__(self, column: Any, path: tuple[str, ...]) -> None:
        super().__init__(column)
        self.path = path


class JsonText(AtPlace):
    """See `json_text`."""

    type = String()
    inherit_cache = True


class JsonWritten(AtPlace):
    """See `json_written`."""

    type = String()
    inherit_cache = True


class JsonNumber(AtPlace):
    """See `json_number`."""

    type = Integer()
    inherit_cache = True


class LastDigits(FunctionElement[str]):
    """See `last_digits`."""

    _traverse_internals = [*FunctionElement._traverse_internals, ("count", InternalTraversal.dp_plain_obj)]  # noqa: RUF012
    type = String()
    inherit_cache = True

    def __init__(self, column: Any, count: int) -> None:
        super().__init__(column)
        self.count = count


def json_text(column: Any, *path: str) -> ColumnElement[str]:
    """The text that stands at that place of a document; NULL where nothing does."""
    return JsonText(column, path)


def json_written(column: Any, *path: str) -> ColumnElement[str]:
    """What stands at that place of a document, as it is written: `true`, `3`, the text itself; NULL where nothing."""
    return JsonWritten(column, path)


def json_number(column: Any, *path: str) -> ColumnElement[int]:
    """The whole number at that place of a document; NULL where nothing stands."""
    return JsonNumber(column, path)


def last_digits(column: Any, count: int) -> ColumnElement[str]:
    """The last characters of a text."""
    return LastDigits(column, count)
