"""A module that is in the project and not in the snapshot: why, and how it gets there."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import Tree

from kitaru import KitaruClient
from kitaru.missing_files import check_collected, hint_for_module
from kitaru.targets import find_target
from kitaru_registry.errors import KitaruDeployError, KitaruUsageError
from kitaru_registry.home import Home

FILES = {
    "kitaru.toml": "",
    "pyproject.toml": "",
    "flow.py": "import shared.text\n",
    "shared/text.py": "",
    "shared/_version.py": "",
    "generated/a.py": "",
    "lib/gen/other.py": "",
    ".gitignore": "_version.py\ngenerated/\n",
}

IGNORED = "git ignores it: in kitaru.toml, [flows.f] include = [{}]"
NOT_INCLUDED = '`include` leaves it out: add "{}" to it, in kitaru.toml, [flows.f]'


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    (tmp_path / "project").mkdir()
    tree = Tree(tmp_path / "project").write(FILES)
    tree.git("init", "--quiet")
    return tree


def hint(module: str, project: Tree, toml: str = "") -> str | None:
    project.write({"kitaru.toml": toml})
    target = find_target("flow.py:f", cwd=project.root)
    collection = project.collect(include=target.config.include, exclude=target.config.exclude)
    return hint_for_module(module, target, collection, has_git=True)


@pytest.mark.parametrize(
    ("module", "toml", "there", "way"),
    [
        ("shared._version", "", "shared/_version.py", IGNORED.format('"*", "shared/_version.py"')),
        ("shared._version", 'include = ["*.py"]', "shared/_version.py", IGNORED.format('"*.py", "shared/_version.py"')),
        ("generated", "", "generated/", IGNORED.format('"*", "generated/"')),
        ("shared.text", 'include = ["flow.py"]', "shared/text.py", NOT_INCLUDED.format("shared/text.py")),
        ("shared", 'include = ["flow.py"]', "shared/", NOT_INCLUDED.format("shared/")),
        (
            "shared.text",
            'exclude = ["text.py"]',
            "shared/text.py",
            "`exclude` leaves it out: see kitaru.toml, [flows.f]",
        ),
    ],
)
def test_the_hint_says_what_leaves_a_module_out(module: str, toml: str, there: str, way: str, project: Tree) -> None:
    assert hint(module, project, f"[flows.f]\n{toml}\n") == f"{there} is there, but {way}"


def test_of_a_module_that_the_project_has_not_the_hint_says_nothing(project: Tree) -> None:
    assert hint("httpx", project) is None


def test_the_hint_says_that_imports_do_not_begin_in_a_folder(project: Tree) -> None:
    said = hint("gen.other", project)

    assert said is not None
    assert said.startswith("lib/gen/other.py is there, but lib/ is not where imports begin")
    assert 'package-dir = { "" = "lib" }' in said


def test_what_the_hint_says_is_enough(project: Tree) -> None:
    said = hint("shared._version", project)
    assert said is not None

    taken = said.partition("include = ")[2]

    assert hint("shared._version", project, f"[flows.f]\ninclude = {taken}\n") is None
    assert "shared/_version.py" in project.paths(include=["*", "shared/_version.py"])


def test_a_flow_whose_own_file_is_ignored_is_refused_with_the_same_words(project: Tree) -> None:
    project.write({".gitignore": "flow.py\n"})
    target = find_target("flow.py:f", cwd=project.root)

    with pytest.raises(KitaruUsageError) as raised:
        check_collected(target, project.collect(), has_git=True)

    assert raised.value.hint == 'it is there, but git ignores it: in kitaru.toml, [flows.f] include = ["*", "flow.py"]'


def test_a_deploy_says_it(project: Tree, home: Home) -> None:
    project.write({"flow.py": "import shared._version\n"})

    with pytest.raises(KitaruDeployError, match=r"shared\._version") as raised:
        KitaruClient(home, cwd=project.root).deployments.create("flow.py:f")

    assert "git ignores it" in (raised.value.hint or "")
