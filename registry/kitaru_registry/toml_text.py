"""TOML that somebody else has written. Standard library only."""

from __future__ import annotations

import tomllib
from typing import Any


def parse(text: str) -> dict[str, Any]:
    """What `tomllib.loads` gives.

    Raises:
        tomllib.TOMLDecodeError: it is no TOML, or nested more deeply than this process can read.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise tomllib.TOMLDecodeError("it is nested too deeply") from error
