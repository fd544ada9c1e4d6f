"""A store on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from kitaru_registry.stores.layout import OciLayout


@pytest.fixture
def store(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "layout")
