"""An artifact's value as a file that other programs read. Nobody's code is run for it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from kitaru_registry.errors import KitaruBackendError, KitaruConflictError
from kitaru_registry.journal.display import as_json

if TYPE_CHECKING:
    from kitaru.artifact_client import ArtifactRef

SUFFIXES = {"str": ".txt", "bytes": ".bin", "numpy": ".npy", "json": ".json", "tagged": ".json"}
PICKLE_NOTE = "a pickle as it was stored: reading it runs code of whoever wrote it"


CSV_NOTE = "CSV keeps no types: load() gives the very table"


@dataclass(frozen=True)
class Written:
    path: Path
    size: int
    """In bytes."""
    note: str | None = None


def download(artifact: ArtifactRef, to: Path, *, force: bool = False) -> Written:
    """Write the value to `to`, or to a file of its name in the folder `to`; whole or not at all.

    Text is written as UTF-8, an array as .npy, a pandas table as CSV where pandas is installed, other data as JSON,
    and anything else as it is stored.

    Raises:
        KitaruConflictError: the file is there, and not `force`.
        KitaruStateError: only its digest was kept.
        KitaruBackendError: it cannot be written.
    """
    content, suffix, note = content_of(artifact.codec, artifact.data())
    path = to / (file_name(artifact) + suffix) if to.is_dir() else to
    if path.exists() and not force:
        raise KitaruConflictError(f"{path} is there already", hint="--force replaces it, --to names another file")
    partial = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        partial.write_bytes(content)
        if force:
            partial.replace(path)
        else:
            # Unlike a rename, it fails where somebody was faster.
            os.link(partial, path)
    except FileExistsError as error:
        raise KitaruConflictError(f"{path} is there already", hint="--force replaces it") from error
    except OSError as error:
        raise KitaruBackendError(f"cannot write {path}: {error.strerror}", hint="--to names another place") from error
    finally:
        partial.unlink(missing_ok=True)
    return Written(path, len(content), note)


def content_of(codec: str, data: bytes) -> tuple[bytes, str, str | None]:
    """What goes into the file, how its name ends, and what is to be said of it."""
    suffix = SUFFIXES.get(codec)
    if suffix == ".json":
        shown = json.dumps(as_json(codec, data), indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace")
        return shown + b"\n", suffix, "types that JSON lacks are in their nearest form" if codec == "tagged" else None
    if suffix is not None:
        return data, suffix, None
    if codec.startswith("pickle-"):
        return data, ".pkl", PICKLE_NOTE
    if codec == "pandas" and (table := as_csv(data)) is not None:
        return table, ".csv", CSV_NOTE
    return data, ".bin", f"the bytes of codec {codec}"


def as_csv(data: bytes) -> bytes | None:
    """A pandas table or column with its index; None where pandas is not installed."""
    from kitaru_registry.journal.entries import Encoded
    from kitaru_runner.values.codec import decode

    try:
        table = decode(Encoded("pandas", data))
    except ImportError:
        return None
    text: str = (table if hasattr(table, "to_csv") else table.to_series()).to_csv()
    return text.encode()


def file_name(artifact: ArtifactRef) -> str:
    """The last part of its place, with what no file name may hold left out."""
    return re.sub(r"[^\w.-]+", "-", artifact.name).strip("-.") or "artifact"
