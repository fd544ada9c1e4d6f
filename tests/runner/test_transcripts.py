"""A child of every release is served as it was then: its side of the journal protocol is kept, and played again."""

from __future__ import annotations

from pathlib import Path

import pytest
from transcripts import play, read

from kitaru_registry.home import Home
from kitaru_registry.journal.messages import SERVED_PROTOCOLS

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.jsonl"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_child_of_that_release_is_served_by_this_runner(path: Path, tmp_path: Path) -> None:
    play(read(path), Home(tmp_path / "home"))


def test_the_transcripts_hold_every_message_of_the_protocol() -> None:
    lines = [line for path in TRANSCRIPTS for line in read(path)]

    assert {line["child"]["t"] for line in lines if "child" in line} == {
        "hello", "record", "started", "wait", "park", "value", "load", "finish",
        "cached", "child", "attend", "outcome", "stop",
    }  # fmt: skip
    assert {line["runner"]["t"] for line in lines if "runner" in line} == {
        "welcome", "entries", "ok", "answer", "error",
    }  # fmt: skip
    assert {line["push"]["t"] for line in lines if "push" in line} == {"answer", "cancel"}
    recorded = [entry for line in lines for entry in line.get("child", {}).get("entries", ())]
    assert {entry["kind"] for entry in recorded} >= set("ctwsln")
    assert any("error" in entry for entry in recorded)
    assert any(len(line["child"]["entries"]) > 1 for line in lines if line.get("child", {}).get("t") == "record")


def test_every_protocol_that_was_released_is_served() -> None:
    assert {read(path)[0]["protocol"] for path in TRANSCRIPTS} <= SERVED_PROTOCOLS


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_names_nobody_s_machine(path: Path) -> None:
    text = path.read_text()

    for name in ("/tmp/", "/root/", "/Users/", ".venv", "site-packages"):
        assert name not in text


def test_each_protocol_has_transcripts_of_all_that_its_first_release_could_do() -> None:
    named = {path.stem.rpartition("-")[0] for path in TRANSCRIPTS if read(path)[0]["protocol"] == 1}

    for protocol in SERVED_PROTOCOLS:
        found = {path.stem.rpartition("-")[0] for path in TRANSCRIPTS if read(path)[0]["protocol"] == protocol}
        assert found >= named, protocol
