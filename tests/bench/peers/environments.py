"""An environment for each peer, from the package index, in a folder of the checkout. What cannot be had says why."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
KEPT = ROOT / ".cache" / "peers"
PATIENCE_SECONDS = 300


class Unavailable(Exception):
    """Its text is the reason, as it stands in the table."""


@dataclass(frozen=True)
class Environment:
    python: Path
    versions: dict[str, str]


def environment(name: str) -> Environment:
    """Made at the first use; made again when its requirements change, or after `make clean`."""
    wanted = tomllib.loads((HERE / "requirements.toml").read_text())[name]
    folder = KEPT / name
    python, note = folder / "bin" / "python", folder / "packages.json"
    asked = json.dumps([wanted["packages"], sys.version_info[:3]])
    if not note.exists() or note.read_text() != asked:
        shutil.rmtree(folder, ignore_errors=True)
        uv("venv", "--python", sys.executable, folder)
        # Compiled bytecode is how Kitaru is measured too.
        uv("pip", "install", "--compile-bytecode", "--python", python, *wanted["packages"])
        note.write_text(asked)
    listed = json.loads(uv("pip", "list", "--format", "json", "--python", python))
    found = {package["name"]: package["version"] for package in listed}
    return Environment(python, {package: found[package] for package in wanted["shown"]})


def uv(*arguments: str | Path) -> str:
    from uv import find_uv_bin

    command = [find_uv_bin(), "--quiet" if arguments[1] != "list" else "--no-progress", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=outside(), timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"uv {arguments[0]} did not end within {PATIENCE_SECONDS} s") from None
    if done.returncode != 0:
        raise Unavailable(reason(done.stderr) or f"uv {arguments[0]} ended with {done.returncode}")
    return done.stdout


def outside() -> dict[str, str]:
    """The caller's environment, without what would make heavy imports slow."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def reason(stderr: str) -> str:
    """The last line of it that is no hint, fit for a page: no addresses, no folders of this machine."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("hint:")]
    told = re.sub(r"\w+://\S+", "(address)", lines[-1] if lines else "")
    return re.sub(r"(?<![\w.])/[\w./-]+", "(path)", told).replace("|", "/")[:200]
