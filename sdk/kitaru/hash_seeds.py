"""The seed of a process's hashes: the order of a set of texts follows from it, and with it the order of a flow's calls.

A deployed flow has 0 in each attempt. One that runs from source has that of `kitaru run`, which is 0 too, or what
PYTHONHASHSEED says; `python script.py` without it has one at random, which no other process can have.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

SEED = "PYTHONHASHSEED"
SECRET_BYTES = 24


def hash_seed() -> int | None:
    """What PYTHONHASHSEED would make another process hash as this one does; None: nothing would."""
    if not sys.flags.hash_randomization:
        return 0
    said = os.environ.get(SEED, "")
    # A program may have set it for its children, and so not have it itself.
    return int(said) if said.isdigit() and said.isascii() and secret_of(int(said)) == own_secret() else None


def own_secret() -> bytes:
    import ctypes

    return bytes((ctypes.c_ubyte * SECRET_BYTES).in_dll(ctypes.pythonapi, "_Py_HashSecret"))


def secret_of(seed: int) -> bytes:
    """What CPython makes of a seed (Python/bootstrap_hash.c, lcg_urandom)."""
    made, state = bytearray(), seed
    for _ in range(SECRET_BYTES):
        state = (state * 214013 + 2531011) & 0xFFFFFFFF
        made.append((state >> 16) & 0xFF)
    return bytes(made)


def begin_with_seed(arguments: Sequence[str]) -> None:
    """Let `kitaru run` begin anew with a seed that a resumed process can have too; not under a debugger, nor with -E.

    Nothing has been loaded yet, so that it costs 10 ms.
    """
    if arguments[:1] != ["run"] or {"--help", "-h"} & set(arguments) or os.environ.get(SEED, "random") != "random":
        return
    flags = sys.flags
    if not flags.hash_randomization or flags.ignore_environment or not sys.executable or is_traced():
        return
    os.environ[SEED] = "0"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def is_traced() -> bool:
    """Whether a debugger, or a measurement of coverage, would be lost."""
    monitoring = getattr(sys, "monitoring", None)
    return sys.gettrace() is not None or (monitoring is not None and any(map(monitoring.get_tool, range(6))))
