"""Record the transcripts of the journal protocol anew: `python tests/runner/record_transcripts.py [NAME...]`.

Once a release is out its transcripts stay as they are: they stand for the children in its users' snapshots. A later
release adds files, under a name with its number: `--release 0.2.0` writes `review-0.2.0.jsonl`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from transcripts import Recording, record, write

from kitaru_registry.home import Home

FOLDER = Path(__file__).parent / "transcripts"


def review(recording: Recording) -> None:
    recording.attempt()
    recording.outside("answer", key="approve", value=True)
    recording.attempt()


def meanwhile(recording: Recording) -> None:
    recording.start()
    recording.until_asked("page")
    recording.outside("answer", key="page", value=7)
    recording.outside("tick")
    recording.until_recorded("page")
    recording.open_gate("go")
    recording.join()


def branches(recording: Recording) -> None:
    recording.attempt()
    recording.outside("answer", key="task[5]/extra", value=3)
    recording.attempt()


def taken_over(recording: Recording) -> None:
    recording.start()
    recording.until_recorded("research")
    recording.until_begun("at_gate")
    recording.outside("take over")
    recording.open_gate("go")
    recording.join()
    recording.attempt()


def failing(recording: Recording) -> None:
    recording.attempt()


def breaking(recording: Recording) -> None:
    recording.attempt()


def noted(recording: Recording) -> None:
    recording.attempt()


def cancelled(recording: Recording) -> None:
    recording.start()
    recording.until_begun("linger")
    recording.outside("cancel")
    recording.join()


def family(recording: Recording) -> None:
    recording.attempt()
    recording.outside("answer", key="task[1]/extra", value=3)
    recording.attempt()
    recording.outside("end child", exec_id=recording.child(), value=6)
    recording.attempt()


def only_recorded(recording: Recording) -> None:
    recording.attempt()


DRIVEN = {
    "review": (review, {"topic": "agents"}),
    "meanwhile": (meanwhile, {}),
    "branches": (branches, {"pages": 5}),
    "taken_over": (taken_over, {}),
    "failing": (failing, {"topic": "agents"}),
    "breaking": (breaking, {}),
    "noted": (noted, {}),
    "cancelled": (cancelled, {}),
    "family": (family, {}),
    "only_recorded": (only_recorded, {}),
}

REPLAYS = {
    "only_recorded": {"of": "0" * 32, "from": None, "reused": 0, "copied": 0, "only_recorded": True},
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(DRIVEN)}; all by default")
    arguments.add_argument("--release", default=version("kitaru"))
    given = arguments.parse_args()
    for name in given.names or DRIVEN:
        drive, inputs = DRIVEN[name]
        with tempfile.TemporaryDirectory() as folder:
            home = Home(Path(folder) / "home")
            lines = record(
                FOLDER / "flows.py", name, inputs, drive, release=given.release, home=home, replay=REPLAYS.get(name)
            )
        write(FOLDER / f"{name}-{given.release}.jsonl", lines)
        print(f"{name}: {len(lines)} lines, {lines[-1]['end'][0][0]}")


if __name__ == "__main__":
    main()
