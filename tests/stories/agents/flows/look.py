"""What a flow sees of the process that it runs in."""

import os
import socket
import sys
from importlib.metadata import version
from pathlib import Path

from kitaru import FlowHandle, KitaruClient, KitaruContextError, checkpoint, flow

SOMEWHERE = ("192.0.2.1", 80)


@checkpoint
def surroundings() -> dict[str, object]:
    return {
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "files": sorted(path.as_posix() for path in Path().rglob("*") if path.is_file()),
        "motto": Path("data/motto.txt").read_text().strip(),
        "hash": hash("kitaru"),
        "path": sys.path,
    }


@flow
def look() -> dict[str, object]:
    return surroundings()


@flow
def connect() -> str | None:
    """Why no other machine can be reached."""
    try:
        socket.create_connection(SOMEWHERE, timeout=1).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


@flow
def ask_registry() -> str:
    """What a client says in here; the annotation below is resolved too."""
    handle: FlowHandle | None = None
    try:
        KitaruClient()
    except KitaruContextError as error:
        return error.message
    return f"a client, and {handle}"


@flow
def installed(names: list[str]) -> dict[str, str]:
    return {name: version(name) for name in names}
