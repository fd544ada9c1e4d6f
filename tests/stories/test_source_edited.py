"""What happens to the source after `deploy` is of no account to the executions of that version."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.stories.conftest import Place

V1 = ["Dear v1", "Festina lente", "Yours, v1"]
V2 = ["Dear v2", "Carpe diem", "Yours, v2"]


def test_executions_of_v1_are_the_same_after_an_edit_a_deploy_and_a_deletion(place: Place) -> None:
    across_the_edit = place.invoke("letter", expect=6)["exec_id"]
    across_the_deletion = place.invoke("letter", expect=6)["exec_id"]

    for file, old, new in (("letter", "Dear v1", "Dear v2"), ("wording", "Yours, v1", "Yours, v2")):
        place.repository.edit(f"flows/{file}.py", old, new)
    place.repository.edit("data/motto.txt", "Festina lente", "Carpe diem")
    edited = place.answer(across_the_edit, "true")
    assert (edited["version"], edited["result"]) == (1, V1)

    place.repository.commit()
    assert place.deploy("flows/letter.py:letter", "--tag", "default")["version"] == 2
    begun_on_v2 = place.invoke("letter", expect=6)
    assert begun_on_v2["version"] == 2

    shutil.rmtree(place.repository.root)
    cwd = place.home.root
    for exec_id in (across_the_deletion, begun_on_v2["exec_id"]):
        place("executions", "input", exec_id, "--value", "true", cwd=cwd)
    assert place.settled(across_the_deletion, cwd=cwd)["result"] == V1
    assert place.settled(begun_on_v2["exec_id"], cwd=cwd)["result"] == V2

    old = place("invoke", "letter@v1", expect=6, cwd=cwd).item["exec_id"]
    place("executions", "input", old, "--value", "true", cwd=cwd)
    assert place.settled(old, cwd=cwd)["result"] == V1
