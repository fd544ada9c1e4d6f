"""What a child asks for, as its runner reads it from a frame's header; and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kitaru_registry.errors import KitaruError
from kitaru_registry.journal.cutting import cut_text
from kitaru_registry.journal.entries import ChildRequest, Encoded, Opening, WaitRequest
from kitaru_registry.journal.frames import Header


def refusal(error: KitaruError) -> Header:
    message = cut_text(error.message)
    return {"t": "error", "type": type(error).__name__, "message": message, "hint": error.hint and cut_text(error.hint)}


def welcome(opening: Opening, folder: Path, *, typed: bool) -> Header:
    """What a child is told first.

    Args:
        typed: whether the inputs are as a parent has given them; what was invoked comes as JSON.
    """
    return {
        "t": "welcome",
        "exec_id": opening.exec_id,
        "attempt": opening.attempt,
        "flow": opening.flow,
        "entrypoint": opening.entrypoint,
        "retries": opening.retries,
        "folder": str(folder),
        "codec": opening.inputs.codec,
        "cache": opening.cache,
        "code": opening.code,
        "replay": opening.replay,
        "accepted": opening.accepted,
        "typed": typed,
        "may_pickle": opening.may_pickle,
        "strict": opening.strict,
    }


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
