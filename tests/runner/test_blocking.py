"""Looking at what the threads of a process do."""

from __future__ import annotations

import gc
import sys
import threading
from types import FrameType

import pytest

from kitaru_runner.engine.core.blocking import frames_of_threads


@pytest.mark.parametrize("collects", [True, False])
def test_nothing_is_collected_while_threads_are_looked_at(monkeypatch: pytest.MonkeyPatch, collects: bool) -> None:
    look, seen = sys._current_frames, []

    def watched() -> dict[int, FrameType]:
        seen.append(gc.isenabled())
        return look()

    monkeypatch.setattr(sys, "_current_frames", watched)
    before = gc.isenabled()
    gc.enable() if collects else gc.disable()
    try:
        frames = frames_of_threads()
        assert gc.isenabled() == collects
    finally:
        gc.enable() if before else gc.disable()

    assert seen == [False]
    assert threading.get_ident() in frames
