"""Runs of the `uv` binary; the only file that knows where it is."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from uv import find_uv_bin

from kitaru_registry.errors import KitaruBackendError

# PYTHONDONTWRITEBYTECODE would leave an environment uncompiled; the others lead uv or a build to another interpreter.
NOT_INHERITED = (
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "UV_PROJECT_ENVIRONMENT",
    "UV_PYTHON",
)
USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+@")


class UvError(Exception):
    """uv ended with an error; `explanation` is what it said, without credentials."""

    def __init__(self, explanation: str) -> None:
        super().__init__(explanation)
        self.explanation = explanation


def run_uv(arguments: Sequence[str | Path], *, cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    """What `uv ARGUMENTS` printed, run in `cwd` and never downloading an interpreter.

    Args:
        environment: the whole environment; by default this process's, less what misleads uv.

    Raises:
        UvError: it failed.
        KitaruBackendError: there is no uv binary.
    """
    chosen = dict(tool_environment() if environment is None else environment)
    chosen |= {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    command = [uv_binary(), *map(str, arguments)]
    try:
        done = subprocess.run(command, cwd=cwd, env=chosen, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except FileNotFoundError as error:
        uv_binary.cache_clear()
        if Path(command[0]).exists():
            raise
        raise no_uv() from error
    if done.returncode != 0:
        raise UvError(without_credentials(done.stderr.strip() or f"uv ended with exit code {done.returncode}"))
    return done.stdout


def tool_environment() -> dict[str, str]:
    """This process's environment for uv, pip and the builds that they start."""
    return {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}


def without_credentials(text: str) -> str:
    return USERINFO.sub("***@", text)


@cache
def uv_binary() -> str:
    try:
        return find_uv_bin()
    except FileNotFoundError as error:
        raise no_uv() from error


def no_uv() -> KitaruBackendError:
    return KitaruBackendError(
        "the uv binary is not where the Python package `uv` should have put it",
        hint="pip install --force-reinstall uv",
    )
