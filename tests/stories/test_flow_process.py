"""The process that a deployed flow runs in: what it sees, and what it does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.stories.conftest import Place

ALWAYS = {"PATH", "HOME", "LANG", "PYTHONHASHSEED", "PYTHONUNBUFFERED"}
# Python itself sets it where the locale is C: PEP 538.
BY_PYTHON = {"LC_CTYPE"}


def test_it_sees_the_variables_that_are_declared_for_the_flow_and_no_others(place: Place) -> None:
    secrets = {"REGION": "north", "API_TOKEN": "hidden", "PYTHONPATH": "/nowhere", "PYTHONHASHSEED": "7"}
    seen = place.invoke("look", env=secrets)["result"]

    assert seen["environment"]["REGION"] == "north"
    assert set(seen["environment"]) - BY_PYTHON <= ALWAYS | {"REGION"}
    assert seen["environment"]["PYTHONHASHSEED"] == "0"
    assert "/nowhere" not in seen["path"]


def test_a_declared_variable_that_is_not_set_is_simply_not_there(shared_place: Place) -> None:
    assert "REGION" not in shared_place.invoke("look")["result"]["environment"]


def test_hashes_of_strings_are_the_same_in_each_process(shared_place: Place) -> None:
    first, second = (shared_place.invoke("look")["result"]["hash"] for _ in range(2))

    assert first == second


def test_it_stands_in_its_own_files(shared_place: Place) -> None:
    seen = shared_place.invoke("look")["result"]

    assert seen["motto"] == "Festina lente"
    assert Path(seen["folder"]).is_relative_to(shared_place.home.root)
    assert {"data/motto.txt", "data/run.sh", "flows/look.py"} <= set(seen["files"])
    assert "kitaru.toml" not in seen["files"]


def test_it_may_import_the_client_and_cannot_use_it(shared_place: Place) -> None:
    told = shared_place.invoke("ask_registry")["result"]

    assert told == "a deployed flow's process has no access to the registry"
