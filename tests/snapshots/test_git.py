"""What a folder's repository says of it, in every state that a repository can be in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from trees import Tree

from kitaru_registry.errors import KitaruBackendError
from kitaru_registry.snapshots.git import GitState, origin_of, read_git, without_credentials


def state_of(tree: Tree) -> GitState:
    state = read_git(tree.root)
    assert state is not None
    return state


def test_a_folder_without_a_repository_has_no_state(tree: Tree) -> None:
    assert read_git(tree.root) is None


def test_tracked_files_and_new_ones_are_listed_and_ignored_ones_are_not(repository: Tree) -> None:
    repository.write({".gitignore": "*.log\n", "flow.py": "", "run.log": ""}).commit()
    repository.write({"new.py": "", "other.log": ""})

    assert state_of(repository).files == (".gitignore", "flow.py", "new.py")


def test_a_deleted_file_is_not_listed(repository: Tree) -> None:
    repository.write({"flow.py": "", "gone.py": ""}).commit()
    (repository.root / "gone.py").unlink()

    assert state_of(repository).files == ("flow.py",)


def test_names_come_back_as_they_are(repository: Tree) -> None:
    names = ('ein "Name".py', "tab\there.py", "größe.py", "流れ.py")
    repository.write(dict.fromkeys(names, "")).commit()

    assert set(state_of(repository).files) == set(names)


def test_a_subfolder_is_listed_relative_to_itself(repository: Tree) -> None:
    repository.write({"README": "", "agents/flow.py": ""}).commit()

    assert state_of(Tree(repository.root / "agents")).files == ("flow.py",)


def test_a_commit_and_a_branch_are_known_and_a_clean_tree_is_clean(repository: Tree) -> None:
    commit = repository.write({"flow.py": ""}).commit()
    facts = state_of(repository).facts

    assert (facts.commit, facts.branch, facts.dirty, facts.remote) == (commit, "main", False, None)


@pytest.mark.parametrize("change", [{"flow.py": "changed"}, {"new.py": ""}])
def test_a_changed_file_and_a_new_one_make_a_tree_dirty(repository: Tree, change: dict[str, str]) -> None:
    repository.write({"flow.py": ""}).commit()
    repository.write(change)

    assert state_of(repository).facts.dirty


def test_a_change_outside_of_the_folder_does_not_make_it_dirty(repository: Tree) -> None:
    repository.write({"README": "", "agents/flow.py": ""}).commit()
    repository.write({"README": "changed"})

    assert not state_of(Tree(repository.root / "agents")).facts.dirty


def test_a_detached_head_has_no_branch(repository: Tree) -> None:
    commit = repository.write({"flow.py": ""}).commit()
    repository.git("checkout", "--quiet", "--detach")

    assert (state_of(repository).facts.commit, state_of(repository).facts.branch) == (commit, None)


def test_before_the_first_commit_there_is_a_branch_and_no_commit(repository: Tree) -> None:
    repository.write({"flow.py": ""})
    state = state_of(repository)

    assert (state.facts.commit, state.facts.branch, state.root_commit) == (None, "main", None)
    assert state.files == ("flow.py",)


def test_the_root_commit_stays_the_same_however_the_history_grows(repository: Tree) -> None:
    first = repository.write({"flow.py": ""}).commit()
    repository.git("checkout", "--quiet", "--orphan", "other")
    repository.commit("an unrelated beginning")
    repository.git("checkout", "--quiet", "main")
    repository.git("merge", "--quiet", "--allow-unrelated-histories", "other")

    assert state_of(repository).root_commit == first


def test_a_shallow_clone_does_not_pretend_to_know_its_root(repository: Tree, tmp_path: Path) -> None:
    repository.write({"flow.py": ""}).commit()
    repository.commit("second")
    subprocess.run(["git", "clone", "--quiet", "--depth=1", repository.root.as_uri(), tmp_path / "clone"], check=True)

    assert state_of(Tree(tmp_path / "clone")).root_commit is None


def test_a_worktree_is_read_like_any_other(repository: Tree, tmp_path: Path) -> None:
    commit = repository.write({"flow.py": ""}).commit()
    repository.git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "side"))
    state = state_of(Tree(tmp_path / "side"))

    assert (state.facts.commit, state.facts.branch, state.files) == (commit, "side", ("flow.py",))


def test_submodules_are_listed_with_their_new_files(repository: Tree, tmp_path: Path) -> None:
    library = Tree(tmp_path / "library")
    library.root.mkdir()
    library.git("init", "--quiet")
    library.write({"tools.py": ""}).commit()
    repository.write({"flow.py": ""}).git("submodule", "--quiet", "add", str(library.root), "lib")
    repository.commit()
    repository.write({"lib/new.py": ""})

    assert state_of(repository).files == (".gitmodules", "flow.py", "lib/new.py", "lib/tools.py")


def test_a_submodule_that_is_not_checked_out_is_named(repository: Tree, tmp_path: Path) -> None:
    library = Tree(tmp_path / "library")
    library.root.mkdir()
    library.git("init", "--quiet")
    library.write({"tools.py": ""}).commit()
    repository.git("submodule", "--quiet", "add", str(library.root), "lib")
    repository.commit()
    subprocess.run(["git", "clone", "--quiet", repository.root, tmp_path / "clone"], check=True)

    assert state_of(Tree(tmp_path / "clone")).missing_submodules == ("lib",)


def test_a_repository_inside_that_is_no_submodule_is_left_out(repository: Tree) -> None:
    repository.write({"flow.py": ""}).commit()
    repository.git("worktree", "add", "--quiet", "-b", "side", str(repository.root / "side"))

    assert state_of(repository).files == ("flow.py",)


def test_a_folder_that_git_ignores_is_as_if_there_were_no_git(repository: Tree) -> None:
    repository.write({".gitignore": "build/\n", "build/flow.py": ""}).commit()

    assert read_git(repository.root / "build") is None


def test_a_new_empty_repository_is_still_a_repository(repository: Tree) -> None:
    assert state_of(repository).files == ()


def test_a_hook_of_another_repository_does_not_mislead(
    repository: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write({"flow.py": ""}).commit()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", "index.lock")

    assert state_of(repository).files == ("flow.py",)


def test_reading_changes_nothing_in_the_repository(repository: Tree) -> None:
    repository.write({"flow.py": ""}).commit()
    (repository.root / "flow.py").touch()
    before = {path: path.stat().st_mtime_ns for path in (repository.root / ".git").rglob("*")}

    read_git(repository.root)

    assert {path: path.stat().st_mtime_ns for path in (repository.root / ".git").rglob("*")} == before


def test_a_repository_that_git_refuses_is_an_error_and_not_a_folder_without_git(tree: Tree) -> None:
    (tree.root / ".git").write_text("gitdir: nowhere\n")

    with pytest.raises(KitaruBackendError, match="git cannot read"):
        read_git(tree.root)


def test_a_machine_without_git_is_told_what_to_install(repository: Tree, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from kitaru_registry.snapshots.git import read_git; read_git(pathlib.Path(sys.argv[1]))"
    )
    (tmp_path / "bin").mkdir()
    done = run_python(code, str(repository.root), path=tmp_path / "bin")

    assert "KitaruBackendError" in done
    assert "no git program" in done


def run_python(code: str, *arguments: str, path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env={"PATH": str(path)}, capture_output=True, text=True
    )
    return done.stderr


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("https://alice:secret@host.example/repo.git", "https://host.example/repo.git"),
        ("https://oauth2:gl-token@host.example:8443/a/b?private_token=x#y", "https://host.example:8443/a/b"),
        ("ssh://git@host.example/repo.git", "ssh://host.example/repo.git"),
        ("git@host.example:team/repo.git", "host.example:team/repo.git"),
        ("alice:secret@host.example:team/repo.git", "host.example:team/repo.git"),
        ("/srv/git/repo@2.git", "/srv/git/repo@2.git"),
        ("../repo.git", "../repo.git"),
        ("https://host.example/repo@2.git", "https://host.example/repo@2.git"),
        ("https://[::1/x", "https://[::1/x"),
        ("https://u:p@[::1]:80/x", "https://[::1]:80/x"),
        ("https://host.example:port/x", "https://host.example:port/x"),
        ("file:///srv/git/repo", "file:///srv/git/repo"),
        ("://", "://"),
    ],
)
def test_an_address_loses_its_credentials_and_nothing_else(url: str, bare: str) -> None:
    assert without_credentials(url) == bare


@pytest.mark.parametrize(
    "secret", ["SE/CRET", "SE#CRET", "SE?CRET", "SE@CRET", "SE@/CRET", "SE:/CRET@x", "SE//CRET", "/SECRET"]
)
@pytest.mark.parametrize("login", ["u:{}", "{}", "u:{}:x"])
@pytest.mark.parametrize("address", ["https://{}@host.example/p", "ssh://{}@host.example:22/p", "{}@host.example:p"])
def test_a_password_that_is_not_escaped_is_no_part_of_the_address(address: str, login: str, secret: str) -> None:
    if "://" not in address and (secret.startswith("/") and login == "{}"):
        pytest.skip("a path of this machine")
    bare = without_credentials(address.format(login.format(secret)))

    assert bare == address.replace("{}@", "")


def test_the_remote_is_recorded_without_its_credentials(repository: Tree) -> None:
    repository.git("remote", "add", "aside", "https://aside.example/repo")
    repository.git("remote", "add", "origin", "https://alice:secret@host.example/repo")

    assert state_of(repository).facts.remote == "https://host.example/repo"


def test_two_clones_are_one_origin(repository: Tree, tmp_path: Path) -> None:
    repository.write({"flow.py": ""}).commit()
    subprocess.run(["git", "clone", "--quiet", repository.root, tmp_path / "clone"], check=True)
    here = origin_of(repository.root, read_git(repository.root))
    there = origin_of(tmp_path / "clone", read_git(tmp_path / "clone"))

    assert here.is_same(there)
