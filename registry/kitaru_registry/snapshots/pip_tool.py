"""Downloads and builds by pip, the index's ordinary client: uv has no command that keeps a published file."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from kitaru_registry.errors import KitaruDeployError
from kitaru_registry.snapshots.uv_tool import UvError, run_uv, tool_environment, without_credentials

# What a user's settings may say of installs, and would break a download of exactly what is locked.
NOT_FOR_DOWNLOADS = ("PIP_CONSTRAINT", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_NO_BINARY", "PIP_DEST", "PIP_SRC")


@contextmanager
def download(requirements_lines: Iterable[str], *, python: str, tools: Path, cache: Path) -> Iterator[Path]:
    """A folder that holds the wheels as published, each checked by pip against its hash; gone at the end.

    Args:
        requirements_lines: one of each wheel, `NAME @ URL --hash=...`.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="download-") as work:
        requirements = Path(work, "requirements.txt")
        requirements.write_text("".join(f"{line}\n" for line in requirements_lines))
        folder = Path(work, "wheels")
        options: list[str | Path] = [
            "--no-deps",
            "--no-index",
            "--only-binary=:all:",
            "--python-version",
            python,
            "-d",
            folder,
        ]
        run_pip(
            ["download", "--require-hashes", *options, "-r", requirements],
            tools=tools,
            failure="the locked wheels cannot be downloaded",
        )
        yield folder


def fetch_by_hash(requirement: str, *, python: str, tools: Path, cache: Path) -> Path:
    """A wheel of which another hash than sha256 is known, kept in the cache: `NAME @ URL --hash=sha512:...`."""
    kept = cache / "fetched" / hashlib.sha256(requirement.encode()).hexdigest()
    found = next(kept.iterdir(), None) if kept.is_dir() else None
    if found is not None:
        return found
    with download([requirement], python=python, tools=tools, cache=cache) as folder:
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(kept)
        except OSError:
            if not kept.is_dir():  # not another deploy that was first: a real failure
                raise
    return next(kept.iterdir())


def build_remote(name: str, requirement: str, *, interpreter: Path, tools: Path, folder: Path) -> Path:
    """The wheel that pip built in `folder` of one source archive or commit.

    Args:
        requirement: one line of a requirements file, with its hash if it is an archive.
    """
    source = folder / "requirements.txt"
    source.write_text(requirement + "\n")
    hashes = ["--require-hashes"] if "--hash=" in requirement else []
    run_pip(
        ["--python", interpreter, "wheel", "--no-deps", *hashes, "--wheel-dir", folder, "-r", source],
        tools=tools,
        failure=f"no wheel of {name} is published for this platform, and its source cannot be built",
    )
    return next(folder.glob("*.whl"))


def run_pip(arguments: Sequence[str | Path], *, tools: Path, failure: str) -> None:
    environment = {n: v for n, v in tool_environment().items() if n not in NOT_FOR_DOWNLOADS}
    environment |= {
        "PIP_REQUIRE_VIRTUALENV": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_QUIET": "1",
        # Builds that put a time into their files put this one: 1980, the first that a zip can hold.
        "SOURCE_DATE_EPOCH": "315532800",
        "PYTHONHASHSEED": "0",
        "PYTHONWARNINGS": "",
    }
    command = [*_pip(tools), *map(str, arguments)]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        detail = without_credentials((done.stderr + done.stdout).strip())
        raise KitaruDeployError(failure, hint="see pip's explanation above", detail=detail)


def _pip(tools: Path) -> list[str]:
    """This interpreter's pip; where it has none, one in an environment of our own, made once."""
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    python = tools / "pip" / "bin" / "python"
    if not python.exists():
        tools.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tools) as work:
            fresh = Path(work, "pip")
            try:
                run_uv(["venv", "-q", "--no-config", "--relocatable", "--seed", "-p", sys.executable, fresh], cwd=tools)
            except UvError as error:
                raise KitaruDeployError(
                    "pip, which downloads wheels, is not installed and cannot be fetched",
                    hint=f"{sys.executable} -m ensurepip",
                    detail=error.explanation,
                ) from error
            try:
                fresh.rename(tools / "pip")
            except OSError:
                if not python.exists():  # not another deploy that was first: a real failure
                    raise
    return [str(python), "-m", "pip"]
