"""What `deploy` is told to take: found, or refused with what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from kitaru.targets import find_target, parse_source
from kitaru_registry.errors import KitaruDeployError, KitaruError, KitaruNotFoundError, KitaruUsageError

CODE = "from kitaru import flow\n\n@flow\ndef review(topic: str) -> str:\n    return topic\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with flows/review.py and no kitaru.toml."""
    folder = tmp_path / "project"
    (folder / "flows").mkdir(parents=True)
    (folder / "flows" / "review.py").write_text(CODE)
    (folder / "pyproject.toml").write_text("")
    return folder


def declare(folder: Path, text: str) -> None:
    (folder / "kitaru.toml").write_text(text)


def test_a_file_is_named_from_its_projects_root_wherever_one_stands(folder: Path, tmp_path: Path) -> None:
    for cwd, target in (
        (folder, "flows/review.py:review"),
        (folder / "flows", "review.py:review"),
        (folder / "flows", "../flows/./review.py:review"),
        (tmp_path, "project/flows/review.py:review"),
        (Path("/"), f"{folder}/flows/review.py:review"),
    ):
        found = find_target(target, cwd=cwd)
        assert (found.entrypoint, found.project.root, found.declared) == ("flows/review.py:review", folder, None)


def test_a_name_is_looked_up_in_kitaru_toml(folder: Path) -> None:
    declare(folder, '[flows.review]\nentrypoint = "flows/review.py:review"\nenv = ["TOKEN"]\n')

    for target in ("review", None, "flows/review.py:review"):
        found = find_target(target, cwd=folder)
        assert (found.entrypoint, found.declared, found.config.env) == ("flows/review.py:review", "review", ("TOKEN",))


def test_a_section_without_entrypoint_counts_for_the_flow_of_its_name(folder: Path) -> None:
    declare(folder, '[flows.review]\nenv = ["TOKEN"]\n')

    assert find_target("flows/review.py:review", cwd=folder).config.env == ("TOKEN",)
    with pytest.raises(KitaruUsageError, match=r"kitaru\.toml does not say where the flow review is"):
        find_target("review", cwd=folder)


def refused(kind: type[KitaruError], target: str | None, cwd: Path) -> KitaruError:
    with pytest.raises(kind) as error:
        find_target(target, cwd=cwd)
    assert error.value.hint
    return error.value


def test_a_file_that_is_not_there_names_the_nearest(folder: Path) -> None:
    error = refused(KitaruNotFoundError, "flows/reveiw.py:review", folder)

    assert error.message == "there is no file flows/reveiw.py"
    assert error.hint == "did you mean flows/review.py?"
    assert "nor its folder" in refused(KitaruNotFoundError, "nosuch/review.py:review", folder).message


def test_a_file_alone_says_which_flows_it_has(folder: Path) -> None:
    assert refused(KitaruUsageError, "flows/review.py", folder).hint == "it has flows/review.py:review"


@pytest.mark.parametrize("target", ["flows:review", "flows/review.py:", "flows/review.py:re view", "README.md:review"])
def test_odd_targets_are_refused(folder: Path, target: str) -> None:
    refused(KitaruUsageError, target, folder)


def test_an_undeclared_name_says_what_is_declared(folder: Path) -> None:
    assert "there is no kitaru.toml" in refused(KitaruNotFoundError, "review", folder).message
    declare(folder, '[flows.review]\nentrypoint = "flows/review.py:review"\n')

    assert refused(KitaruNotFoundError, "reviw", folder).hint == "did you mean review?"


def test_without_a_target_there_must_be_one_flow(folder: Path) -> None:
    refused(KitaruUsageError, None, folder)
    declare(folder, '[flows.a]\nentrypoint = "flows/review.py:a"\n[flows.b]\nentrypoint = "flows/review.py:b"\n')

    assert refused(KitaruUsageError, None, folder).message.endswith("has a, b")


def test_a_name_that_is_declared_for_another_file_is_refused(folder: Path) -> None:
    declare(folder, '[flows.review]\nentrypoint = "other.py:review"\n')

    error = refused(KitaruUsageError, "flows/review.py:review", folder)

    assert "says that the flow review is other.py:review" in error.message


def test_a_declared_file_that_is_not_there_is_named(folder: Path) -> None:
    declare(folder, '[flows.review]\nentrypoint = "other.py:review"\n')

    assert refused(KitaruNotFoundError, "review", folder).message == "there is no file other.py"


def test_a_syntax_error_is_shown_as_python_shows_it(folder: Path) -> None:
    (folder / "broken.py").write_text("def f(:\n    pass\n")

    with pytest.raises(KitaruDeployError, match=r"broken\.py is not valid Python, line 1") as error:
        parse_source(folder / "broken.py", "broken.py")

    assert error.value.detail is not None
    assert error.value.detail.startswith('  File "broken.py", line 1\n    def f(:')
    assert error.value.detail.endswith("SyntaxError: invalid syntax")
