"""A folder with flows, as somebody has them who wrote them for the original."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from kitaru import KitaruClient
from kitaru_registry.home import Home
from kitaru_runner.child.loader import load_module

IMPORTS = "import kitaru\nfrom kitaru import checkpoint, flow, load, log, save, wait\n"


@dataclass(frozen=True)
class Code:
    root: Path
    home: Home

    @property
    def client(self) -> KitaruClient:
        return KitaruClient(self.home, cwd=self.root)

    def load(self, source: str) -> ModuleType:
        """The module that such a file is."""
        file = self.root / "flows.py"
        file.write_text(IMPORTS + source)
        return load_module(self.root, file)


@pytest.fixture
def code(tmp_path: Path, home: Home) -> Code:
    root = tmp_path / "code"
    root.mkdir()
    return Code(root, home)
