"""Which files are collected, and which trees are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from trees import Tree

from kitaru_registry.errors import KitaruDeployError, KitaruUsageError


def test_what_git_tracks_or_would_is_collected_in_order_of_path(repository: Tree) -> None:
    repository.write({".gitignore": "*.log\n", "b.py": "", "a/z.py": "", "run.log": ""}).commit()
    repository.write({"a/new.py": ""})

    assert repository.paths() == [".gitignore", "a/new.py", "a/z.py", "b.py"]


def test_without_git_a_folder_is_collected_but_for_what_its_gitignore_names(tree: Tree) -> None:
    tree.write({".gitignore": "*.log\nout/\n", "flow.py": "", "run.log": "", "out/x.txt": "", ".hidden": ""})

    assert tree.paths() == [".gitignore", ".hidden", "flow.py"]


def test_a_tree_is_the_same_collection_with_git_and_without(repository: Tree) -> None:
    repository.write({".gitignore": "*.log\n", "flow.py": "", "run.log": "", "a/b.py": "x"}).commit()
    with_git = repository.collect()
    shutil.rmtree(repository.root / ".git")

    assert repository.collect().digest == with_git.digest


@pytest.mark.parametrize("path", ["kitaru.toml", ".kitaruignore", ".github/workflows/ci.yml"])
def test_what_changes_nothing_that_runs_is_not_collected(repository: Tree, path: str) -> None:
    repository.write({"flow.py": ""})
    before = repository.collect().digest
    repository.write({path: ""}).commit()

    assert repository.collect().digest == before


def test_a_kitaru_toml_further_down_is_a_file_like_any_other(repository: Tree) -> None:
    assert repository.write({"templates/kitaru.toml": ""}).paths() == ["templates/kitaru.toml"]


@pytest.mark.parametrize("committed", [False, True])
def test_what_tools_make_is_left_out_whether_it_is_tracked_or_not(repository: Tree, *, committed: bool) -> None:
    made = (
        "__pycache__/flow.cpython-311.pyc",
        ".venv/bin/python",
        "node_modules/a/b.js",
        ".pytest_cache/x",
        "k.egg-info/y",
    )
    repository.write({"flow.py": ""} | dict.fromkeys(made, ""))
    if committed:
        repository.commit()

    assert repository.paths() == ["flow.py"]


@pytest.mark.parametrize("marker", ["pyvenv.cfg", "kitaru.db"])
@pytest.mark.parametrize("has_git", [False, True])
def test_virtual_environments_and_homes_are_left_out_by_what_they_hold(
    tree: Tree, marker: str, *, has_git: bool
) -> None:
    if has_git:
        tree.git("init", "--quiet")
    tree.write({"flow.py": "", f"odd name/{marker}": "", "odd name/lib/x.py": "", "odd name 2.py": ""})

    assert tree.paths() == ["flow.py", "odd name 2.py"]


def test_kitaruignore_reads_like_gitignore(repository: Tree) -> None:
    repository.write({".kitaruignore": "# notes\ndata/*\n!data/keep.csv\n!node_modules/\n"})
    repository.write({"flow.py": "", "data/big.csv": "", "data/keep.csv": "", "node_modules/x.js": ""})

    assert repository.paths() == ["data/keep.csv", "flow.py", "node_modules/x.js"]


def test_include_narrows_and_exclude_takes_away(repository: Tree) -> None:
    repository.write({"flows/a.py": "", "flows/README.md": "", "other/b.py": "", "shared.py": ""})

    assert repository.paths(include=("flows/", "/shared.py"), exclude=("*.md",)) == ["flows/a.py", "shared.py"]


def test_a_tree_of_which_nothing_is_left_is_refused(repository: Tree) -> None:
    with pytest.raises(KitaruUsageError, match="no file is left"):
        repository.write({"flow.py": ""}).collect(include=("flows/",))


def test_a_link_to_a_file_is_stored_as_that_file(repository: Tree) -> None:
    repository.write({"shared/tools.py": "x = 1"})
    (repository.root / "tools.py").symlink_to("shared/tools.py")

    assert repository.collect().read("tools.py") == b"x = 1"


def test_a_link_to_a_folder_is_stored_as_the_files_that_are_collected_there(repository: Tree) -> None:
    repository.write({".gitignore": "*.log\n", "shared/tools.py": "x = 1", "shared/run.log": ""})
    (repository.root / "vendored").symlink_to("shared")

    assert repository.paths() == [".gitignore", "shared/tools.py", "vendored/tools.py"]


@pytest.mark.parametrize("has_git", [False, True])
@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("nowhere", "points to nothing"),
        ("link", "points to nothing"),
        ("/etc/hostname", "points out of the project"),
        ("../beside", "points out of the project"),
        (".", "points to a folder that holds it"),
        ("loop", "further link"),
    ],
)
def test_a_link_that_cannot_be_stored_is_refused_by_name(tree: Tree, target: str, why: str, *, has_git: bool) -> None:
    if has_git:
        tree.git("init", "--quiet")
    (tree.root.parent / "beside").write_text("")
    tree.write({"flow.py": "", "loop/file": ""})
    (tree.root / "loop" / "again").symlink_to("file")
    (tree.root / "link").symlink_to(target)

    with pytest.raises(KitaruDeployError, match=f"link: a symbolic link that .*{why}"):
        tree.collect()
    assert "flow.py" in tree.paths(allow=("link",))


def test_a_link_into_the_repository_itself_is_refused(repository: Tree) -> None:
    repository.write({"flow.py": ""})
    (repository.root / "settings").symlink_to(".git/config")

    with pytest.raises(KitaruDeployError, match="the repository's own files"):
        repository.collect()


def test_a_link_does_not_hide_what_it_stands_for(repository: Tree) -> None:
    repository.write({".gitignore": ".env\n", ".env": "A=1"})
    (repository.root / "settings").symlink_to(".env")

    with pytest.raises(KitaruDeployError, match=r"settings: .*--allow env-file"):
        repository.collect()


def test_a_file_that_changes_after_it_was_collected_is_refused(tree: Tree) -> None:
    collection = tree.write({"flow.py": "x = 1"}).collect()
    tree.write({"flow.py": "x = 2"})

    with pytest.raises(KitaruDeployError, match=r"flow\.py changed while it was being deployed"):
        collection.read("flow.py")


def test_a_path_that_was_not_collected_is_answered_with_the_nearest(tree: Tree) -> None:
    collection = tree.write({"flows/review.py": "", "other.py": ""}).collect()

    with pytest.raises(KitaruUsageError) as refused:
        collection.read("flows/reveiw.py")
    assert refused.value.hint == "did you mean flows/review.py?"


def test_a_name_that_is_not_unicode_is_refused(tree: Tree) -> None:
    tree.write({"flow.py": ""})
    (tree.root / "\udcff.py").touch()

    with pytest.raises(KitaruDeployError, match="not UTF-8"):
        tree.collect()


def test_a_submodule_that_is_not_checked_out_is_refused_unless_left_out(repository: Tree, tmp_path: Path) -> None:
    library = Tree(tmp_path / "library")
    library.root.mkdir()
    library.git("init", "--quiet")
    library.write({"tools.py": ""}).commit()
    repository.write({"flow.py": ""}).git("submodule", "--quiet", "add", str(library.root), "lib")
    repository.git("submodule", "--quiet", "deinit", "--force", "lib")

    with pytest.raises(KitaruDeployError, match=r"lib: a submodule .*--allow submodule"):
        repository.collect()
    assert "flow.py" in repository.paths(allow=("submodule",))
    assert "flow.py" in repository.paths(exclude=("lib/",))


def test_more_than_fifty_megabytes_are_refused_and_the_largest_named_in_order(tree: Tree) -> None:
    for number in range(12):
        with (tree.root / f"part{number:02}.bin").open("wb") as file:
            file.truncate(5_000_000 + number)

    with pytest.raises(KitaruDeployError, match="60,000,066 bytes are more than 50,000,000") as refused:
        tree.collect()
    assert "part11.bin (5,000,011 bytes), part10.bin" in refused.value.message
    assert "part02.bin" in refused.value.message
    assert "part01.bin" not in refused.value.message
    assert len(tree.paths(allow=("size",))) == 12


def test_more_than_five_thousand_files_are_refused(tree: Tree) -> None:
    for number in range(5001):
        (tree.root / f"{number}.txt").touch()

    with pytest.raises(KitaruDeployError, match=r"5,001 files are more than 5,000.*--allow count"):
        tree.collect()


def test_an_unknown_allow_names_the_nearest(tree: Tree) -> None:
    with pytest.raises(KitaruUsageError) as refused:
        tree.write({"flow.py": ""}).collect(allow=("private-keys",))
    assert "did you mean private-key?" in str(refused.value.hint)
