"""JSON as text, as `json` writes and reads it, without what that does anew at each call: for tiny values that is most.

Standard library only: every child imports this.
"""

from __future__ import annotations

import json
import json.encoder
import json.scanner
from collections.abc import Callable
from typing import Any

PLAIN = frozenset({str, int, bool, type(None)})
"""Types that JSON carries whatever the value is."""

DECODER = json.JSONDecoder()
SCAN = json.scanner.make_scanner(DECODER)  # type: ignore[arg-type]  # typeshed: of a scanner


def encoder(*, separators: tuple[str, str] = (", ", ": "), sort_keys: bool = False) -> Callable[[Any], str]:
    """What `json.dumps` with these options does; but a value that contains itself is a RecursionError."""
    plain = json.JSONEncoder(check_circular=False, separators=separators, sort_keys=sort_keys)
    # CPython's, which its JSONEncoder makes at each call. It keeps nothing between calls where it does not look for
    # values that contain themselves.
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return plain.encode
    between_items, after_key = separators
    escape = json.encoder.encode_basestring_ascii
    pieces = make(None, plain.default, escape, None, after_key, between_items, sort_keys, plain.skipkeys, True)
    return lambda value: "".join(pieces(value, 0))


compact = encoder(separators=(",", ":"))
"""ASCII: a text of the user's may hold a lone surrogate, which is no UTF-8."""


def parse(text: str) -> Any:
    """What `json.loads` gives."""
    try:
        value, end = SCAN(text, 0)
        if end == len(text):
            return value
    except (StopIteration, json.JSONDecodeError):
        pass
    # It has white space around it, or is no JSON: then the error says where.
    return DECODER.decode(text)
