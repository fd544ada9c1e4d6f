"""Recorded values for people and scripts: JSON made from a codec's bytes, with nobody's code run.

The codecs are those of kitaru_runner.values.codec. Types that JSON lacks are shown by their nearest JSON form; what
cannot be read without code is shown as a line in angle brackets.
"""

from __future__ import annotations

import ast
import base64
import json
from typing import Any


def as_json(codec: str | None, data: bytes | None, size: int | None = None) -> Any:
    """The value, as near as JSON comes to it. `size` is in bytes, for one that was not read."""
    if codec is None:
        return None
    if data is None:
        return f"<{codec}, {size or 0:,} bytes>"
    try:
        if codec == "json":
            return json.loads(data)
        if codec == "str":
            return data.decode()
        if codec == "tagged":
            return plain(json.loads(data))
    except RecursionError:
        return f"<{codec}, too deep to be shown, {len(data):,} bytes>"
    return without_code(codec, data)


def without_code(codec: str, data: bytes) -> str:
    """What can be said of bytes that are not read: the head of an array or a table says its shape."""
    size = f"{len(data):,} bytes"
    try:
        if codec == "numpy":
            head = ast.literal_eval(data[10 : data.index(b"\n")].decode("latin-1"))
            return f"<numpy {head['descr']} of shape {head['shape']}, {size}>"
        if codec == "pandas":
            head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "big")])
            columns = f" of {len(head['values'])} columns" if head["type"] == "frame" else ""
            return f"<pandas {head['type']}{columns}, {size}>"
    except (ValueError, KeyError, TypeError, SyntaxError):
        pass
    return f"<{codec}, {size}>"


def plain(tagged: Any) -> Any:
    if isinstance(tagged, list):
        return [plain(item) for item in tagged]
    if not isinstance(tagged, dict):
        return tagged
    if "$" not in tagged:
        return {key: plain(item) for key, item in tagged.items()}
    content = tagged["v"]
    if tagged["$"] == "encoded":
        return without_code(tagged["type"], base64.b64decode(content))
    if tagged["$"] == "dict":
        return {key if isinstance(key, str) else json.dumps(plain(key)): plain(item) for key, item in content}
    return plain(content)
