"""Wheels and source archives that lie on this machine: what a lock says of them, and what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from kitaru_registry.canonical import sha256_of_file
from kitaru_registry.errors import KitaruDeployError
from kitaru_registry.models import Digest
from kitaru_registry.snapshots.sources import Source

STRONG = ("sha256", "sha512", "sha384", "blake2b")


def checked_digest(path: Path, hashes: Mapping[str, str], *, name: str, source: Source) -> Digest:
    """The sha256 of a local file, which is what the lock says.

    Args:
        hashes: algorithm to hex digits, of which one that proves something is compared; empty: nothing to compare.
        name: the package's.

    Raises:
        KitaruDeployError: it is gone, has other bytes than were locked, or nothing could be compared.
    """
    kind = next((kind for kind in STRONG if kind in hashes), None)
    if hashes and kind is None:
        raise KitaruDeployError(
            f"of {path.name} {source.label} tells {', '.join(sorted(hashes))} alone, which proves too little",
            hint="lock it with sha256",
        )
    try:
        with path.open("rb") as content:
            digest = sha256_of_file(content)
            content.seek(0)
            found = hashlib.file_digest(content, kind).hexdigest() if kind else ""
    except OSError as error:
        raise KitaruDeployError(
            f"{path.name}, which {source.label} names, cannot be read at {path}: {error.strerror}",
            hint=f"put it there, or {again(source, name)}",
        ) from error
    if kind and found != hashes[kind]:
        raise KitaruDeployError(
            f"{path} has other bytes than {source.label} has for {name}: it was built again, or damaged",
            hint=again(source, name),
        )
    return digest


def again(source: Source, name: str) -> str:
    """The command that brings a local file's new bytes into the lock."""
    if source.kind == "uv.lock":
        return f"uv lock --upgrade-package {name}"
    if source.kind == "script-lock" and source.path is not None:
        return f"uv lock --script {source.path.name} --upgrade-package {name}"
    if source.kind == "pylock":
        return f"lock {name} again with the tool that wrote {source.label}"
    return f"publish {name} again, so that its index tells the hash of what is there"
