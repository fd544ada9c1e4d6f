"""A power cut takes nothing away that a flow or a user was told of: on a disk that keeps what was fsynced, no more.

The disk reads POSIX strictly (forgetful_fs.py). The power goes before a write, fsync, rename ... that a seed chooses;
every process is killed with it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from power import POLL_SECONDS, PoweredHome, seeded

from kitaru_registry.models import Digest
from kitaru_registry.snapshots.artifact import verify
from kitaru_registry.stores.layout import OciLayout

CUTS = 10
CHANGES_BETWEEN_CUTS = 200
CHANGES_OF_A_DEPLOY = 80
ENOUGH = 6
USER = str(Path(__file__).parents[1] / "support" / "power_user.py")
RUNNER = ("-m", "kitaru_runner")

NewHome = Callable[..., PoweredHome]


@pytest.mark.parametrize("seed", range(4))
def test_no_recorded_checkpoint_is_lost_or_executed_again(seed: int, new_home: NewHome) -> None:
    powered, chance = new_home(), seeded(seed)

    cuts = [powered_on(powered, chance.randint(1, CHANGES_BETWEEN_CUTS)) for _ in range(CUTS)]
    assert powered_on(powered, None) is None

    told = f"cut before {cuts}\n{powered.told()}"
    check_what_lasted(powered, told)
    assert powered.rows("SELECT status FROM executions") == [("completed",)], told
    assert executed_again(powered) == set(), told
    assert changed_outcomes(powered) == set(), told


def powered_on(powered: PoweredHome, cut_at: int | None) -> str | None:
    """Let a runner and a user work until the power goes; what it went before, and None where nothing was left to do."""
    invoked = powered.lines("invoked")
    if cut_at is not None:
        powered.disk.ask(f"arm {cut_at}")
    powered.start(*RUNNER)
    user = powered.start(USER, invoked[-1][1] if invoked else "-")
    if not powered.use_until_cut(user):
        return None
    before = powered.cut()
    check_what_lasted(powered, f"{before}\n{powered.told()}")
    return before


def check_what_lasted(powered: PoweredHome, told: str) -> None:
    assert powered.is_sound(), told
    assert powered.lost() == set(), told
    assert powered.damaged_values() == set(), told


def executed_again(powered: PoweredHome) -> set[str]:
    """Checkpoints that began after their outcome had come to the flow."""
    first_got: dict[str, int] = {}
    for at, label, _ in powered.lines("got"):
        first_got.setdefault(label, at)
    return {label for at, label, _ in powered.lines("begin") if at > first_got.get(label, at)}


def changed_outcomes(powered: PoweredHome) -> set[str]:
    seen: dict[str, set[str]] = {}
    for _, label, digest in powered.lines("got"):
        seen.setdefault(label, set()).add(digest)
    return {label for label, digests in seen.items() if len(digests) > 1}


@pytest.mark.parametrize("seed", range(6))
def test_a_version_that_lasts_has_all_its_bytes(seed: int, empty_home: NewHome, kitaru_executable: Path) -> None:
    powered, chance = empty_home(), seeded(seed)
    if seed:  # the first one comes to its end, and then the power goes
        powered.disk.ask(f"arm {chance.randint(1, CHANGES_OF_A_DEPLOY)}")

    deploy(powered, kitaru_executable)
    before = powered.cut()
    check_versions(powered, before)
    deploy(powered, kitaru_executable)
    powered.cut()

    check_versions(powered, before)
    assert powered.labels("deployed") == {"v1"}, powered.told()


def deploy(powered: PoweredHome, kitaru_executable: Path) -> None:
    """Deploy, and tell of it if that was the answer; the power may go."""
    done = powered.start(str(kitaru_executable), "deploy", "flows.py:careful")
    if not powered.use_until_cut(done):
        powered.tell("deployed", "v1")


def check_versions(powered: PoweredHome, told: str) -> None:
    """Every version that is in the record, or that a deploy has told of, is whole."""
    if not powered.home.database.exists() or powered.rows("PRAGMA user_version") == [(0,)]:
        assert powered.labels("deployed") == set(), told
        return
    assert powered.is_sound(), told
    store = OciLayout(powered.home.layout)
    for (digest,) in powered.rows("SELECT digest FROM versions"):
        verify(store, Digest(str(digest)))
    assert powered.lost() == set(), told


def test_a_home_that_an_execution_has_made_lasts_with_it(new_disk: NewHome) -> None:
    powered = new_disk()

    run = powered.start("flows.py")
    assert not powered.use_until_cut(run)
    powered.cut()

    check_what_lasted(powered, powered.told())
    assert powered.labels("got") >= {"small-0", "large-0"}
    assert powered.rows("SELECT kind, status FROM executions") == [("source", "completed")]


# The same, where it must fail: a disk on which nothing could be lost would prove nothing.


def work_for_a_while(powered: PoweredHome, *options: str) -> None:
    """Until some outcomes have come to the flow; then the power goes."""
    powered.start(*RUNNER, *options)
    user = powered.start(USER, "-")
    while len(powered.labels("got")) < ENOUGH:
        with pytest.raises(subprocess.TimeoutExpired):
            user.wait(POLL_SECONDS)
    powered.cut()


def test_this_disk_loses_checkpoints_that_were_committed_without_fsync(new_home: NewHome) -> None:
    powered = new_home()

    work_for_a_while(powered, "--synchronous=NORMAL")

    assert powered.is_sound(), "NORMAL loses the last checkpoints, and never the database"
    assert powered.lost() & powered.labels("got")


def test_this_disk_loses_values_that_were_written_without_fsync(new_home: NewHome) -> None:
    powered = new_home(ignores="*/values/*")

    work_for_a_while(powered)

    assert powered.lost() == set()
    assert powered.damaged_values()
