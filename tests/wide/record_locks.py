"""Record what the tools lock today, and what uv chooses of it: python tests/wide/record_locks.py

The recorded locks are what tests/snapshots/test_recorded_locks.py reads; in them is no index.
"""

from __future__ import annotations

import json
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "support"))

from foreign_locks import TOOLS, chosen_by_uv, for_this_machine, install_tools, lock_with, recorded  # noqa: E402

MINORS = ("3.11", "3.12", "3.13")
LOCKS = ROOT / "snapshots" / "locks"


def main() -> None:
    choices: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as work:
        programs = install_tools(Path(work, "tools"))
        for tool in sys.argv[1:] or TOOLS:
            folder = Path(work, tool)
            folder.mkdir()
            record(tool, lock_with(tool, folder, programs), choices)
    known = LOCKS / "choices.json"
    before = json.loads(known.read_text()) if known.exists() else {}
    known.write_text(json.dumps(before | choices, indent=0, sort_keys=True) + "\n")


def record(tool: str, pylock: Path, choices: dict[str, dict[str, str]]) -> None:
    lock = tomllib.loads(pylock.read_text())
    (LOCKS / f"{tool}-lock.toml").write_text(recorded(lock, keep=for_this_machine))
    # pip locks for the Python that it runs in.
    for minor in MINORS[:1] if tool == "pip" else MINORS:
        choices[f"{tool} {minor}"] = chosen_by_uv(pylock, lock, minor=minor)
        print(tool, minor, len(choices[f"{tool} {minor}"]))


if __name__ == "__main__":
    main()
