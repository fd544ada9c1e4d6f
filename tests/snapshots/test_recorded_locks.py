"""The 40 most used packages, as uv, pip, PDM and Poetry locked them: what uv installed of each lock is what is picked.

Recorded by tests/wide/record_locks.py; `make test-wide` does the same with what the tools lock today.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path

import pytest
from foreign_locks import OF_THIS_MACHINE, PLATFORMS
from packaging.markers import default_environment

from kitaru_registry.snapshots import selection
from kitaru_registry.snapshots.lock import lock_text
from kitaru_registry.snapshots.packages import LockedWheel
from kitaru_registry.snapshots.selection import Published, select, wheel_version

LOCKS = Path(__file__).with_name("locks")
CHOICES: dict[str, dict[str, str]] = json.loads((LOCKS / "choices.json").read_text())


@pytest.fixture(autouse=True)
def on_the_machine_that_they_were_recorded_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "platform_tags", lambda: iter(PLATFORMS))
    monkeypatch.setattr(selection, "default_environment", lambda: {**default_environment(), **OF_THIS_MACHINE})


def wheels_of(tool: str, minor: str) -> list[LockedWheel]:
    lock = tomllib.loads((LOCKS / f"{tool}-lock.toml").read_text())
    found = []
    for package in select(lock, base=LOCKS, python=f"{minor}.4"):
        wheel = package.artefact
        assert isinstance(wheel, Published)
        assert wheel.digest
        found.append(LockedWheel(package.name, wheel_version(wheel.filename), wheel.filename, wheel.digest, None, None))
    return found


@pytest.mark.parametrize("recorded", CHOICES)
def test_what_uv_installed_of_a_lock_is_picked(recorded: str) -> None:
    tool, minor = recorded.split()

    assert {wheel.name: wheel.filename for wheel in wheels_of(tool, minor)} == CHOICES[recorded]


def test_a_lock_that_could_be_deployed_before_has_the_same_digest_still() -> None:
    """Taken from the release before this choice was our own. uv's lock of the same files could not be deployed then."""
    digests = {
        tool: hashlib.sha256(lock_text(wheels_of(tool, "3.11"), python="3.11")).hexdigest() for tool in ("pip", "uv")
    }

    assert digests["pip"] == "9b7137b233c57152a7a0850618315391cb1165cdb3cb322ab3b400308469a91c"
    assert digests["uv"] == digests["pip"]
