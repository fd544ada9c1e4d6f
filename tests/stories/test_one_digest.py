"""`kitaru deploy` of the same tree is the same version: whoever deploys it, where, when, and from which commit."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.stories.conftest import REVIEW

if TYPE_CHECKING:
    from tests.stories.conftest import Place

# The whole tree is in this one's snapshot; kitaru.toml narrows the other's.
WHOLE = "flows/look.py:look"


def is_v1(place: Place, deployed: dict[str, Any], target: str = WHOLE) -> bool:
    flow = target.partition(":")[2]
    first = place("versions", "list", flow).items[-1]
    return (deployed["version"], deployed["digest"], deployed["created"]) == (1, first["digest"], False)


@pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)
def test_a_clone_under_another_umask_and_path(shared_place: Place, tmp_path: Path, umask: int) -> None:
    clone = shared_place.repository.clone(tmp_path / "a folder" / "größe", umask=umask)

    assert is_v1(shared_place, shared_place.deploy(WHOLE, cwd=clone.root, umask=umask))


def test_another_user_on_another_machine_in_another_time_zone(
    shared_place: Place, elsewhere: Callable[[Path], Place], tmp_path: Path
) -> None:
    (tmp_path / "grace").mkdir()
    machine = elsewhere(shared_place.repository.clone(tmp_path / "clone").root)
    env = {"TZ": "Pacific/Kiritimati", "HOME": str(tmp_path / "grace"), "USER": "grace", "LOGNAME": "grace"}

    deployed = machine.deploy(WHOLE, env=env | {"LC_ALL": "C", "PYTHONHASHSEED": "3", "SOURCE_DATE_EPOCH": "1"})

    assert deployed["created"]
    assert deployed["digest"] == shared_place("versions", "list", "look").items[-1]["digest"]


def test_another_branch_another_remote_a_detached_head_and_no_change(shared_place: Place, tmp_path: Path) -> None:
    clone = shared_place.repository.clone(tmp_path / "clone")
    clone.git("remote", "set-url", "origin", "https://host.example/other/agents")
    clone.git("checkout", "--quiet", "-b", "side")
    clone.commit("nothing but a message")
    on_branch = shared_place.deploy(WHOLE, cwd=clone.root)
    clone.git("checkout", "--quiet", "--detach")

    detached = shared_place.deploy(WHOLE, cwd=clone.root)

    assert is_v1(shared_place, on_branch)
    assert is_v1(shared_place, detached)
    assert (on_branch["git"]["branch"], detached["git"]["branch"]) == ("side", None)
    assert detached["git"]["remote"] == "https://host.example/other/agents"


def test_files_that_came_to_be_in_another_order_without_git(place: Place, tmp_path: Path) -> None:
    tracked = place.repository.git("ls-files").splitlines()
    random.Random(7).shuffle(tracked)
    for path in tracked:
        copy = tmp_path / "copy" / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(place.repository.root / path, copy)

    deployed = place.deploy(WHOLE, "--adopt", cwd=tmp_path / "copy")

    assert is_v1(place, deployed)
    assert deployed["git"] is None


def test_a_dirty_tree_and_the_commit_of_it(place: Place) -> None:
    place.repository.edit("flows/review.py", "Why they matter", "How to begin")
    dirty = place.deploy()
    commit = place.repository.commit()

    committed = place.deploy()

    assert (dirty["version"], dirty["created"], dirty["git"]["dirty"]) == (2, True, True)
    assert (committed["version"], committed["created"], committed["digest"]) == (2, False, dirty["digest"])
    assert (committed["git"]["dirty"], committed["git"]["commit"]) == (False, commit)
    deploys = place("versions", "show", "review_flow@v2").item["deploys"]
    assert [event["git"]["dirty"] for event in deploys] == [False, True]
    assert place.repository.git("status", "--short", "--ignored") == "", "a deploy leaves nothing behind"


def test_a_commit_that_changes_only_kitaru_toml_makes_no_new_version(shared_place: Place, tmp_path: Path) -> None:
    clone = shared_place.repository.clone(tmp_path / "clone")
    with (clone.root / "kitaru.toml").open("a") as file:
        file.write("\n[runner]\nmax_executions = 3\n")
    clone.commit("Settings")

    assert is_v1(shared_place, shared_place.deploy(REVIEW, cwd=clone.root), REVIEW)
    assert is_v1(shared_place, shared_place.deploy(WHOLE, cwd=clone.root))


def test_an_edit_outside_of_what_a_flow_includes_is_no_new_version_of_it(place: Place) -> None:
    place.repository.edit("data/motto.txt", "Festina lente", "Carpe diem")
    place.repository.commit()

    assert is_v1(place, place.deploy(REVIEW), REVIEW)
    assert place.deploy(WHOLE)["version"] == 2
