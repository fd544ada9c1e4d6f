"""One spelling of a JSON value, and the digest of bytes: what identity is made of.

Standard library only: a child process imports this.
"""

from __future__ import annotations

import hashlib
import json
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from kitaru_registry.models import Digest

DIGEST_PREFIX = "sha256:"


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON with sorted keys, no spaces, no escapes that are not needed.

    Raises:
        ValueError: NaN or an infinity, which JSON cannot say, or text that is no Unicode.
        TypeError: something that is no JSON value.
    """
    return canonical_text(value).encode()


def json_digest(value: object) -> Digest:
    """The digest of `canonical_json`; also where text in it is no Unicode, which a value may hold.

    Raises:
        ValueError, TypeError: it is no JSON.
    """
    return sha256_of(canonical_text(value).encode("utf-8", "surrogatepass"))


def canonical_text(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_of(content: bytes) -> Digest:
    return cast("Digest", DIGEST_PREFIX + hashlib.sha256(content).hexdigest())


def sha256_of_file(content: IO[bytes]) -> Digest:
    """The digest of what is left to read."""
    # Any binary file with readinto will do; typeshed asks for its own protocol.
    return cast("Digest", DIGEST_PREFIX + hashlib.file_digest(content, "sha256").hexdigest())  # type: ignore[arg-type]


def hex_of(digest: Digest) -> str:
    """The 64 hex digits alone.

    Raises:
        ValueError: not `sha256:` and 64 lower-case hex digits, so no name of a blob.
    """
    prefix, _, digits = digest.partition(":")
    if prefix != "sha256" or len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise ValueError(f"{digest!r} is not sha256: and 64 lower-case hex digits")
    return digits
