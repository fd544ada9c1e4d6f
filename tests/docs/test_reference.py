"""What is generated is what the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import kitaru
from kitaru_registry.journal import messages

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_references_are_what_the_code_says(generate: ModuleType) -> None:
    pages = {name: (DOCS / name).read_text() for name in generate.pages()}

    assert pages == generate.pages(), "run python docs/generate.py"


def test_every_public_name_is_explained(generate: ModuleType) -> None:
    concepts = (DOCS / "concepts.md").read_text()

    assert [name for name in kitaru.__all__ if not name.startswith("__") and f"`{name}" not in concepts] == []


def test_every_message_of_the_journal_protocol_is_on_its_page() -> None:
    page = (DOCS / "journal-protocol.md").read_text()
    said = set(re.findall(r"(?:^    |-> |  )(\w+) \{", messages.__doc__ or "", re.M))

    assert said >= {"hello", "welcome", "entries", "record", "park", "finish", "answer", "error"}
    assert [name for name in sorted(said) if f"`{name} {{" not in page] == []
