"""A flow has the dependencies of its own project, none or such as Kitaru itself could not live with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

if TYPE_CHECKING:
    from tests.stories.conftest import Place

LOOK = Path(__file__).parent / "agents" / "flows" / "look.py"
PINS = {"sqlalchemy": "2", "typer": "0.9", "rich": "13"}


def test_a_project_without_any_dependency_file(elsewhere: Callable[[Path], Place], tmp_path: Path) -> None:
    project = tmp_path / "plain"
    project.mkdir()
    (project / "hello.py").write_text(
        "from kitaru import flow\n\n\n@flow\ndef hello(name: str = 'you') -> str:\n    return f'Hello {name}'\n"
    )
    place = elsewhere(project)

    deployed = place.deploy("hello.py:hello")

    assert (deployed["version"], deployed["git"]) == (1, None)
    assert place.invoke("hello", '{"name": "Ada"}')["result"] == "Hello Ada"


def test_a_project_whose_pins_clash_with_kitarus_own(elsewhere: Callable[[Path], Place], tmp_path: Path) -> None:
    project = tmp_path / "clashing"
    project.mkdir()
    shutil.copy(LOOK, project / "look.py")
    (project / "requirements.txt").write_text("".join(f"{name}<{limit}\n" for name, limit in PINS.items()))
    place = elsewhere(project)
    place.deploy("look.py:installed")
    place.deploy("look.py:ask_registry")

    found = place.invoke("installed", '{"names": ["sqlalchemy", "typer", "rich", "pydantic"]}')["result"]

    for name, limit in PINS.items():
        assert Version(found[name]) < Version(limit), f"{name} {found[name]}"
    assert Version(found["pydantic"]) >= Version("2")
    # Another SQLAlchemy in the flow's environment opens no registry either.
    assert place.invoke("ask_registry")["result"] == "a deployed flow's process has no access to the registry"
