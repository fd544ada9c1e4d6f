"""Which test exercises which row of docs/coming-from.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., None])

PAGE = Path(__file__).resolve().parents[2] / "docs" / "coming-from.md"
tested: dict[str, str] = {}


def row(*names: str) -> Callable[[Test], Test]:
    """The test exercises these rows, named by the code in their first cell."""

    def mark(test: Test) -> Test:
        for name in names:
            tested[name] = test.__name__
        return test

    return mark


def rows_of_page() -> list[str]:
    """The first cell of each row of the page's tables, without its backquotes."""
    cells = [
        line.split(" | ")[0].removeprefix("| ") for line in PAGE.read_text().splitlines() if line.startswith("| `")
    ]
    return [re.sub(r"^`(.*)`$", r"\1", cell.strip()) for cell in cells]
