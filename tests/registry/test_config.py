"""`kitaru.toml`: where it is found, what it may say, and what is told when it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from kitaru_registry.config import find_root, load_project, span_seconds
from kitaru_registry.errors import KitaruUsageError


def write(file: Path, text: str = "") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_without_any_file_the_folder_is_the_root_and_everything_has_its_default(tmp_path: Path) -> None:
    config = load_project(tmp_path, environ={})

    assert (config.root, config.file, config.project, config.flows) == (tmp_path, None, "default", {})
    assert (config.runner.autostart, config.runner.max_executions, config.runner.idle_seconds) == (True, 8, 60)
    assert config.journal.synchronous == "FULL"


@pytest.mark.parametrize("marker", ["kitaru.toml", "pyproject.toml", ".git/HEAD"])
def test_the_root_is_found_upwards(tmp_path: Path, marker: str) -> None:
    write(tmp_path / marker)
    (tmp_path / "a" / "b").mkdir(parents=True)

    assert find_root(tmp_path / "a" / "b") == tmp_path


def test_kitaru_toml_wins_over_a_nearer_pyproject_and_pyproject_over_git(tmp_path: Path) -> None:
    write(tmp_path / "kitaru.toml")
    write(tmp_path / "a" / ".git" / "HEAD")
    write(tmp_path / "a" / "b" / "pyproject.toml")
    assert find_root(tmp_path / "a" / "b") == tmp_path

    (tmp_path / "kitaru.toml").unlink()
    assert find_root(tmp_path / "a" / "b") == tmp_path / "a" / "b"


def test_a_pyproject_above_the_repository_is_another_projects(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml")
    write(tmp_path / "a" / ".git", "gitdir: elsewhere")

    assert find_root(tmp_path / "a") == tmp_path / "a"


def test_a_file_stands_for_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "kitaru.toml", 'project = "team"')
    write(tmp_path / "flows" / "review.py")

    assert load_project(tmp_path / "flows" / "review.py", environ={}).project == "team"


def test_everything_that_may_be_said_is_read(tmp_path: Path) -> None:
    write(
        tmp_path / "kitaru.toml",
        """
        project = "team"
        [flows.review]
        entrypoint = "flows/review.py:review"
        include = ["flows/"]
        exclude = ["*.md"]
        env = ["MODEL_KEY"]
        python = "3.12"
        requirements = "flows/requirements.txt"
        [deploy]
        env = ["INDEX"]
        [runner]
        autostart = false
        max_executions = 2
        idle_seconds = 0
        [journal]
        synchronous = "NORMAL"
        """,
    )
    config = load_project(tmp_path, environ={})
    review = config.flows["review"]

    assert (review.entrypoint, review.include, review.exclude) == ("flows/review.py:review", ("flows/",), ("*.md",))
    assert (review.env, review.python, review.requirements) == (("MODEL_KEY",), "3.12", "flows/requirements.txt")
    assert (config.deploy.env, config.runner.autostart, config.journal.synchronous) == (("INDEX",), False, "NORMAL")


def test_the_environment_names_the_project_before_the_file_does(tmp_path: Path) -> None:
    write(tmp_path / "kitaru.toml", 'project = "team"')

    assert load_project(tmp_path, environ={"KITARU_PROJECT": "mine"}).project == "mine"
    assert load_project(tmp_path, environ={"KITARU_PROJECT": ""}).project == "team"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("projct = 'x'", "unknown key projct (did you mean project?)"),
        ("[flow.x]", "unknown key flow (did you mean flows?)"),
        ("[flows.x]\nentry = 'a.py:b'", "unknown key flows.x.entry"),
        ("[flows.x]\nincludes = []", "unknown key flows.x.includes (did you mean include?)"),
        ("[runner]\nzzz = 1", "unknown key runner.zzz (known: autostart, max_executions, idle_seconds, lease_seconds)"),
        ("root = '/'", "unknown key root"),
        ("[flows.x]\nentrypoint = 'a.py'", "flows.x.entrypoint: 'a.py' is not of the form"),
        ("[flows.x]\nentrypoint = '/a.py:b'", "flows.x.entrypoint: '/a.py:b' is not of the form"),
        ("[flows.x]\nenv = ['A-B']", "flows.x.env.0: 'A-B' is no name of an environment variable"),
        ("[flows.x]\npython = '3.11.2'", "flows.x.python: '3.11.2' is not a minor version"),
        ("[flows.x]\npython = 3.11", "flows.x.python: Input should be a valid string"),
        ("[runner]\nmax_executions = 0", "runner.max_executions: Input should be greater than or equal to 1"),
        ("[runner]\nautostart = 'no'", "runner.autostart: Input should be a valid boolean"),
        ("[journal]\nsynchronous = 'OFF'", "journal.synchronous: Input should be 'FULL' or 'NORMAL'"),
        ("project = ", "is not valid TOML"),
        ("project = 'a b'", "'a b' cannot be the name of a project"),
        ("[flows.'a b']", "'a b' cannot be the name of a flow"),
        ("deploy = 3", "deploy: Input should be"),
    ],
)
def test_a_wrong_file_is_one_error_that_names_the_place(tmp_path: Path, text: str, told: str) -> None:
    write(tmp_path / "kitaru.toml", text)

    with pytest.raises(KitaruUsageError) as refused:
        load_project(tmp_path, environ={})
    assert told in refused.value.message
    assert refused.value.hint


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path / "kitaru.toml", "projct = 'x'\n[runner]\nidle_seconds = 'long'")

    with pytest.raises(KitaruUsageError, match=r"projct.*; runner\.idle_seconds|runner\.idle_seconds.*; .*projct"):
        load_project(tmp_path, environ={})


@pytest.mark.parametrize(("span", "seconds"), [("90d", 7_776_000), ("12h", 43_200), ("30m", 1_800), ("2w", 1_209_600)])
def test_a_retention_is_a_number_and_a_unit(tmp_path: Path, span: str, seconds: int) -> None:
    write(tmp_path / "kitaru.toml", f'[retention]\nexecutions = "{span}"\n')

    kept = load_project(tmp_path, environ={}).retention.executions

    assert kept is not None
    assert span_seconds(kept) == seconds


@pytest.mark.parametrize("span", ["soon", "0d", "-1d", "90", "90 d", "1y"])
def test_another_retention_is_refused(tmp_path: Path, span: str) -> None:
    write(tmp_path / "kitaru.toml", f'[retention]\nexecutions = "{span}"\n')

    with pytest.raises(KitaruUsageError, match=f"retention.executions: '{span}' is no span of time"):
        load_project(tmp_path, environ={})


@pytest.mark.parametrize(("variable", "pickle"), [("", "forbid"), ("allow", "allow"), ("forbid", "forbid")])
def test_a_variable_wins_over_what_is_said_of_pickles(tmp_path: Path, variable: str, pickle: str) -> None:
    write(tmp_path / "kitaru.toml", '[values]\npickle = "forbid"\n')

    assert load_project(tmp_path, environ={"KITARU_PICKLE": variable}).values.pickle == pickle


def test_another_word_for_pickles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KitaruUsageError, match="KITARU_PICKLE is 'no'"):
        load_project(tmp_path, environ={"KITARU_PICKLE": "no"})
