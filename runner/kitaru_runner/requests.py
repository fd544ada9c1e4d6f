"""What a child asks for, as its runner reads it from a frame's header; and what a refusal says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru_registry.errors import KitaruError
from kitaru_runner.cutting import cut_text
from kitaru_runner.protocol import ChildRequest, Encoded, Header, WaitRequest


def refusal(error: KitaruError) -> Header:
    message = cut_text(error.message)
    return {"t": "error", "type": type(error).__name__, "message": message, "hint": error.hint and cut_text(error.hint)}


def as_wait(described: Mapping[str, Any]) -> WaitRequest:
    return WaitRequest(
        key=described["key"],
        name=described["name"],
        question=described["question"],
        schema=described["schema"],
        metadata=described["metadata"],
        entered_us=described["entered"],
        kind=described.get("kind", "input"),
        deadline_us=described.get("deadline"),
        any_of=described.get("any_of"),
        child=described.get("child"),
    )


def as_child(described: Mapping[str, Any], inputs: bytes) -> ChildRequest:
    return ChildRequest(
        key=described["key"],
        place=described["place"],
        flow=described["flow"],
        inputs=Encoded(described["codec"], inputs),
        entrypoint=described["entrypoint"],
        tag=described["tag"],
        version=described["version"],
        options=described["options"],
        digest=bytes.fromhex(described["digest"]) if described.get("digest") else None,
    )
