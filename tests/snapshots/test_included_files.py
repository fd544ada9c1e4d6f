"""What git ignores and a flow needs comes in where a pattern names it; what this process writes itself stays out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from trees import Tree

from kitaru_registry.snapshots.choice import Choice

IGNORED = "*.log\n_version.py\n*_pb2.py\n/out/\nsecrets/\n.env\nbuild/\n"
FILES = {
    ".gitignore": IGNORED,
    "flow.py": "",
    "gen/__init__.py": "",
    "gen/_version.py": "v = 1\n",
    "gen/a_pb2.py": "",
    "gen/b_pb2.py": "",
    "gen/run.log": "",
    "out/model.py": "",
    "out/deep/data_pb2.py": "",
    "secrets/key.py": "",
    "build/lib/x_pb2.py": "",
    ".env": "TOKEN=hunter2hunter2\n",
}
TRACKED = {".gitignore", "flow.py", "gen/__init__.py"}


@pytest.fixture(params=["git", "no git"])
def ignoring(request: pytest.FixtureRequest, repository: Tree) -> Tree:
    """The same with and without a repository: then the root's `.gitignore` counts."""
    if request.param == "no git":
        shutil.rmtree(repository.root / ".git")
    return repository.write(FILES)


@pytest.mark.parametrize(
    ("patterns", "taken"),
    [
        (["gen/_version.py"], {"gen/_version.py"}),
        (["/gen/_version.py"], {"gen/_version.py"}),
        (["_version.py"], {"gen/_version.py"}),
        (["*_pb2.py"], {"gen/a_pb2.py", "gen/b_pb2.py"}),
        (["gen/*_pb2.py", "!gen/b_pb2.py"], {"gen/a_pb2.py"}),
        (["gen/", "*_pb2.py"], {"gen/a_pb2.py", "gen/b_pb2.py"}),
        (["out/model.py"], {"out/model.py"}),
        (["out/"], {"out/model.py", "out/deep/data_pb2.py"}),
        (["/out"], {"out/model.py", "out/deep/data_pb2.py"}),
        (["out/deep/"], {"out/deep/data_pb2.py"}),
        (["out/**/*_pb2.py"], {"out/deep/data_pb2.py"}),
        (["out/*.py"], {"out/model.py"}),
        # A folder's ignored files are not meant by the folder's name, and nothing is by a bare wildcard.
        (["gen/"], set()),
        (["gen"], set()),
        (["gen/*"], set()),
        (["*.py"], set()),
        (["gen/*.py"], set()),
        (["**"], set()),
        ([], set()),
    ],
)
def test_include_takes_in_what_it_names_although_git_ignores_it(
    patterns: list[str], taken: set[str], ignoring: Tree
) -> None:
    assert set(ignoring.paths(include=["*", *patterns] if patterns else [])) == TRACKED | taken


def test_kitaruignore_takes_in_what_it_names_with_an_exclamation_mark(ignoring: Tree) -> None:
    ignoring.write({".kitaruignore": "# generated\n!gen/_version.py\n!out/\ngen/a_pb2.py\n"})

    assert set(ignoring.paths()) == TRACKED | {"gen/_version.py", "out/model.py", "out/deep/data_pb2.py"}


def test_exclude_has_the_last_word(ignoring: Tree) -> None:
    assert set(ignoring.paths(include=["*", "*_pb2.py"], exclude=["b_pb2.py"])) == TRACKED | {"gen/a_pb2.py"}


def test_what_tools_make_is_not_taken_in_by_a_pattern_for_source(ignoring: Tree) -> None:
    ignoring.write({".gitignore": IGNORED + "__pycache__/\n", "gen/__pycache__/x_pb2.py": ""})

    assert "gen/__pycache__/x_pb2.py" not in ignoring.paths(include=["*", "*_pb2.py", "__pycache__/"])


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("gen/_version.py", "git ignores it"),
        ("lib/x.py", "`include` leaves it out"),
        ("gen/old.py", "`exclude` leaves it out"),
        ("gen/tmp.py", ".kitaruignore leaves it out"),
        ("gen/__pycache__/x.py", "it is among what tools make, and no project means"),
    ],
)
def test_why_a_file_is_left_out_is_told(path: str, reason: str, ignoring: Tree) -> None:
    ignoring.write({".kitaruignore": "tmp.py\n"})

    assert Choice(ignoring.root, ["gen/"], ["old.py"], has_git=True).reason(path) == reason


COLLECT = """
import sys
from pathlib import Path
from kitaru_registry.snapshots.files import collect

print("resolving", flush=True)
print(*(file.path for file in collect(Path.cwd(), git=None).files), file=open(sys.argv[1], "w"))
"""


@pytest.mark.parametrize("command", ['"$0" -c "$1" "$2" > deploy.log', '"$0" -c "$1" "$2" 2>&1 | tee deploy.log >&2'])
def test_what_the_commands_own_output_goes_into_is_left_out(command: str, tree: Tree, tmp_path: Path) -> None:
    tree.write({"flow.py": "", "other.log": ""})
    answer = tmp_path / "answer"

    subprocess.run(["sh", "-c", command, sys.executable, COLLECT, str(answer)], cwd=tree.root, check=True)

    assert answer.read_text().split() == ["flow.py", "other.log"]
    assert (tree.root / "deploy.log").read_text() == "resolving\n"


def test_a_closed_standard_output_is_no_error(tree: Tree, tmp_path: Path) -> None:
    tree.write({"flow.py": ""})
    answer = tmp_path / "answer"
    code = COLLECT.replace('print("resolving", flush=True)', "")

    command = ["sh", "-c", '"$0" -c "$1" "$2" >&- 2>&-', sys.executable, code, str(answer)]
    subprocess.run(command, cwd=tree.root, check=True, env=dict(os.environ))

    assert answer.read_text().split() == ["flow.py"]
