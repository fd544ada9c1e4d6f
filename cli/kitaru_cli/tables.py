"""What a command's text is made of: lines, facts and tables, as data. Rich draws them, when there is one to draw."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from kitaru_cli.words import one_line, visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

UNBOUNDED_COLUMNS = 1_000
"""Where nobody looks at a terminal's width (a pipe, a file), lines are as long as they are."""

COLUMN_GAP = "  "

NARROWEST_COLUMNS = 12
"""Of a column that may take several lines."""

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
    if not stream.isatty() and all(isinstance(part, str | Styled) for part in parts):
        for part in parts:
            print(visible(plain(part)), file=stream)
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


def console_on(stream: IO[str]) -> Console:
    import os

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

    grid = Grid(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column(style="bright_black", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, cell in facts.rows:
        grid.add_row(label, drawn_cell(cell))
    return grid


def kept_columns(table: Table) -> list[int]:
    return [index for index, name in enumerate(table.columns) if name or any(plain(row[index]) for row in table.rows)]


def least_widths(table: Table) -> dict[int, int]:
    """Columns to the cells that each needs to be read."""
    from rich.cells import cell_len

    widths = {}
    for index in kept_columns(table):
        name = table.columns[index]
        whole = max(cell_len(text) for text in (name, *(one_line(plain(row[index])) for row in table.rows)))
        widths[index] = min(whole, NARROWEST_COLUMNS) if name in table.wraps else whole
    return widths


def least_width(table: Table) -> int:
    widths = least_widths(table)
    return sum(widths.values()) + len(COLUMN_GAP) * (len(widths) - 1)


def drawn_table(table: Table) -> RenderableType:
    from rich.table import Table as Grid

    grid = Grid(box=None, pad_edge=False, padding=(0, len(COLUMN_GAP), 0, 0), header_style="bold")
    kept = kept_columns(table)
    for index, width in least_widths(table).items():
        name = table.columns[index]
        grid.add_column(
            name.upper(), no_wrap=name not in table.wraps, overflow="fold", min_width=width,
            justify="right" if name in table.right else "left",
        )  # fmt: skip
    for row in table.rows:
        grid.add_row(*(drawn_cell(row[index]) for index in kept))
    return grid
