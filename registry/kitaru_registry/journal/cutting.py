"""Failures that are too large to be kept whole, and how much of them is.

A text is cut at `LONGEST_TEXT` characters, and says so; an argument or attribute of more than `LARGEST_PART_BYTES` as
JSON is left out by name; of many exceptions in one only so many are described whole. What is left of a failure is at
most a few times `LARGEST_FAILURE_BYTES` of JSON. Standard library only: every child imports this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru_registry.journal.json_text import compact

LONGEST_TEXT = 1 << 16
LARGEST_PART_BYTES = 1 << 18
LARGEST_FAILURE_BYTES = 1 << 20
MOST_INNER = 1_000
"""Exceptions within one: members of its group, and what these and it came from."""

BARE = ("type", "class", "message", "origin", "checkpoint")
BARE_TEXT = 200
MORE = ("made", "http", "lost", "bases")
INNER = ("from", "cause", "context")


def cut_text(text: str, most: int = LONGEST_TEXT) -> str:
    """The text, or its beginning and how long it was."""
    if len(text) <= most:
        return text
    return f"{text[:most]}... (cut: {most:,} of {len(text):,} characters)"


def cut_traceback(text: str) -> str:
    """The text, or its beginning and its end, which names the exception."""
    if len(text) <= LONGEST_TEXT:
        return text
    half = LONGEST_TEXT // 2
    return f"{text[:half]}\n... (cut: {LONGEST_TEXT:,} of {len(text):,} characters)\n{text[-half:]}"


def cut_failure(described: Mapping[str, Any]) -> dict[str, Any]:
    """The failure as `describe_failure` gives it, with what is too large cut or left out, and named."""
    if len(compact(described)) <= LONGEST_TEXT:
        return dict(described)
    cut, left_out = cut_parts(described)
    if left_out and "traceback" in cut:
        cut["traceback"] += f"\n(not kept, because of its size: {', '.join(left_out)})\n"
    return with_inner(cut, Room())


class Room:
    """What is left for the exceptions within one."""

    def __init__(self) -> None:
        self.size = LARGEST_FAILURE_BYTES
        self.count = MOST_INNER

    def take(self, described: Mapping[str, Any]) -> dict[str, Any]:
        """The exception, whole or as little as there is room for; what is within it is not looked at."""
        self.count -= 1
        cut, _ = cut_parts(described)
        self.size -= len(compact({name: value for name, value in cut.items() if name not in (*INNER, "group")}))
        if self.size >= 0:
            return cut
        bare = {name: cut[name] for name in BARE if name in cut}
        return {**bare, "message": cut_text(bare["message"], BARE_TEXT)}


def with_inner(described: dict[str, Any], room: Room) -> dict[str, Any]:
    """The failure with the exceptions in it cut as well."""
    if "group" in described:
        members = described["group"]["exceptions"]
        kept = [with_inner(room.take(member), room) for member in members[: max(room.count, 1)]]
        message = cut_text(described["group"]["message"])
        if len(kept) < len(members):
            message += f" (cut: {len(kept):,} of {len(members):,} exceptions)"
        described["group"] = {**described["group"], "message": message, "exceptions": kept}
    for name in INNER:
        if name in described:
            inner = described.pop(name)
            if room.count > 0:
                described[name] = with_inner(room.take(inner), room)
    return described


def cut_parts(described: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The failure without the exceptions in it cut; and the names of what was left out."""
    cut = dict(described)
    for name in ("message", "hint"):
        if isinstance(cut.get(name), str):
            cut[name] = cut_text(cut[name])
    if "traceback" in cut:
        cut["traceback"] = cut_traceback(cut["traceback"])
    parts = Parts()
    if "args" in cut:
        cut["args"] = [parts.kept(f"args[{at}]", value) for at, value in enumerate(cut["args"][:MOST_INNER])]
    if "state" in cut:
        kept = {name: parts.kept(name, value) for name, value in cut["state"].items()}
        cut["state"] = {name: value for name, value in kept.items() if name not in parts.left_out}
    for name in MORE:
        if name in cut and len(compact(cut[name])) > LARGEST_PART_BYTES:
            parts.left_out.append(name)
            del cut[name]
    return cut, parts.left_out


class Parts:
    """What an exception holds, each as far as there is room for it."""

    def __init__(self) -> None:
        self.left_out: list[str] = []
        self._size = LARGEST_FAILURE_BYTES

    def kept(self, name: str, value: Any) -> Any:
        """The value; of a long text its beginning; of anything else that is too large a text that says so."""
        if isinstance(value, str):
            value = cut_text(value)
        size = len(compact(value))
        if size <= min(self._size, LARGEST_PART_BYTES) or size <= BARE_TEXT:
            self._size -= size
            return value
        self.left_out.append(name)
        return f"(not kept: {size:,} bytes)"
