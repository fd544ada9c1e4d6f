"""What a command's text is made of: lines, facts and tables, as data. Rich draws them for terminals.

Without colours and a width, ASCII text needs no Rich, which takes 40 ms to import.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import IO, TYPE_CHECKING

from kitaru_cli.words import one_line, visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

UNBOUNDED_COLUMNS = 1_000
"""Where nobody looks at a terminal's width (a pipe, a file), lines are as long as they are."""

GAP = 2
"""Blanks between columns."""

NARROWEST_COLUMNS = 12
"""Of a column that may take several lines."""

ASK_FOR_RICH = ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE")
"""Variables by which one asks for a width, or colours, where there is no terminal."""

TRAILING_SPACE = re.compile(r"(?: |\x1b\[[0-9;]*m)+$", re.MULTILINE)
"""Rich fills the last column, which a reader cannot see; colour codes may stand between the spaces."""

STATUS_STYLES = {
    "completed": "green",
    "failed": "red",
    "cancelled": "bright_black",
    "waiting": "yellow",
    "running": "cyan",
    "pending": "blue",
    "answered": "green",
    "closed": "bright_black",
}


@dataclass(frozen=True)
class Styled:
    text: str
    style: str


Cell = str | Styled


@dataclass(frozen=True)
class Facts:
    """Labels and values, one to a line."""

    rows: Sequence[tuple[str, Cell]]


@dataclass(frozen=True)
class Table:
    """A column without a name is left out where every row leaves it empty."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    wraps: frozenset[str] = frozenset()
    """Columns that may take several lines; every other one stays whole."""
    right: frozenset[str] = frozenset()


Part = str | Styled | Facts | Table


def status(word: str) -> Styled:
    return Styled(word, STATUS_STYLES.get(word, ""))


def dim(text: str) -> Styled:
    return Styled(text, "bright_black")


def bold(text: str) -> Styled:
    return Styled(text, "bold")


def show(parts: Sequence[Part], stream: IO[str] | None = None) -> None:
    """Print to stdout, or to the stream; coloured on a terminal without NO_COLOR."""
    stream = stream or sys.stdout
    lines = None if stream.isatty() else plain_lines(parts)
    if lines is not None:
        print(*lines, sep="\n", end="\n" if lines else "", file=stream)
        return
    console = console_on(stream)
    with console.capture() as captured:
        bounded = console.width
        for part in parts:
            # Too narrow a terminal breaks the lines of a table itself; cropped cells would be lost.
            console.width = max(bounded, least_width(part)) if isinstance(part, Table) else bounded
            console.print(drawn(part), soft_wrap=isinstance(part, str | Styled))
    print(TRAILING_SPACE.sub(lambda end: end[0].replace(" ", ""), captured.get()), end="", file=stream)


def plain(part: Part) -> str:
    return part.text if isinstance(part, Styled) else str(part)


def plain_lines(parts: Sequence[Part]) -> list[str] | None:
    """As Rich draws them where there is no terminal; None where only Rich can."""
    lines: list[str] = []
    for part in parts:
        drawn = [visible(plain(part))] if isinstance(part, str | Styled) else plain_rows(part)
        if drawn is None:
            return None
        lines += drawn
    return lines


def plain_rows(part: Facts | Table) -> list[str] | None:
    """A line for each row; None where one may be wider than its number of characters, or too wide for a line."""
    if any(name in os.environ for name in ASK_FOR_RICH):
        return None
    rows, right = texts_of(part)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sum(widths) + GAP * len(widths) > UNBOUNDED_COLUMNS or not all(map(str.isascii, chain(*rows))):
        return None
    return [(" " * GAP).join(justified(row, widths, right)).rstrip(" ") for row in rows]


def justified(row: Sequence[str], widths: Sequence[int], right: Container[int]) -> Iterator[str]:
    for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if index in right else cell.ljust(width)


def texts_of(part: Facts | Table) -> tuple[list[list[str]], frozenset[int]]:
    """What stands in its rows, the first of a table being its header; and which columns are set to the right."""
    if isinstance(part, Facts):
        return [[label, one_line(plain(cell))] for label, cell in part.rows], frozenset()
    table = without_empty_columns(part)
    rows = [[one_line(plain(cell)) for cell in row] for row in table.rows]
    right = frozenset(index for index, name in enumerate(table.columns) if name in table.right)
    return [[name.upper() for name in table.columns], *rows], right


def console_on(stream: IO[str]) -> Console:
    from rich.console import Console

    bounded = stream.isatty() or "COLUMNS" in os.environ
    return Console(file=stream, width=None if bounded else UNBOUNDED_COLUMNS, highlight=False, emoji=False)


def drawn(part: Part) -> RenderableType:
    if isinstance(part, Table):
        return drawn_table(part)
    if isinstance(part, Facts):
        return drawn_facts(part)
    from rich.text import Text

    return Text(visible(plain(part)), style=part.style if isinstance(part, Styled) else "")


def drawn_cell(cell: Cell) -> RenderableType:
    from rich.text import Text

    return Text(one_line(plain(cell)), style=cell.style if isinstance(cell, Styled) else "")


def drawn_facts(facts: Facts) -> RenderableType:
    from rich.table import Table as Grid

    grid = Grid(box=None, show_header=False, pad_edge=False, padding=(0, GAP, 0, 0))
    grid.add_column(style="bright_black", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, cell in facts.rows:
        grid.add_row(label, drawn_cell(cell))
    return grid


def least_widths(table: Table) -> list[int]:
    """Of each column the cells that it needs to be read."""
    from rich.cells import cell_len

    widths = []
    for index, name in enumerate(table.columns):
        whole = max(cell_len(text) for text in (name, *(one_line(plain(row[index])) for row in table.rows)))
        widths.append(min(whole, NARROWEST_COLUMNS) if name in table.wraps else whole)
    return widths


def least_width(table: Table) -> int:
    widths = least_widths(without_empty_columns(table))
    return sum(widths) + GAP * (len(widths) - 1)


def drawn_table(whole: Table) -> RenderableType:
    from rich.table import Table as Grid

    table = without_empty_columns(whole)
    grid = Grid(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name, width in zip(table.columns, least_widths(table), strict=True):
        grid.add_column(
            name.upper(), no_wrap=name not in table.wraps, overflow="fold", min_width=width,
            justify="right" if name in table.right else "left",
        )  # fmt: skip
    for row in table.rows:
        grid.add_row(*map(drawn_cell, row))
    return grid


def without_empty_columns(table: Table) -> Table:
    kept = [index for index, name in enumerate(table.columns) if name or any(plain(row[index]) for row in table.rows)]
    rows = [[row[index] for index in kept] for row in table.rows]
    return replace(table, columns=[table.columns[index] for index in kept], rows=rows)
