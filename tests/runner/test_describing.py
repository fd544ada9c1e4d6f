"""What a deploy keeps of a flow is the code's own: nothing of a variable, the machine or the moment."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from kitaru_registry.errors import KitaruDeployError
from kitaru_runner.host.import_check import FlowDescription, describe

SECRET = "hunter2secret"


def described(folder: Path, code: str, **env: str) -> FlowDescription:
    header = "import os, time, datetime, uuid\nfrom pathlib import Path\nfrom typing import Literal\n"
    (folder / "flows.py").write_text(f"{header}from kitaru import flow\n{dedent(code)}")
    return describe(Path(sys.executable), folder, "flows.py:f", env=env)


def test_what_code_says_of_itself_is_kept(tmp_path: Path) -> None:
    found = described(tmp_path, '@flow\ndef f(topic: str = "tea", n: int = 3) -> str: ...', MODEL_KEY=SECRET)

    assert found.input_schema["properties"]["topic"]["default"] == "tea"


@pytest.mark.parametrize(
    ("code", "place"),
    [
        ('@flow\ndef f(key: str = os.environ["MODEL_KEY"]): ...', "the default of key"),
        ('@flow\ndef f(key: list = ["x", "Bearer " + os.environ["MODEL_KEY"]]): ...', "the default of key"),
        ('@flow\ndef f(key: Literal[os.environ["MODEL_KEY"]]): ...', "the type of key"),
        ('@flow\ndef f() -> Literal[os.environ["MODEL_KEY"]]: ...', "the type of what is returned"),
    ],
)
def test_the_value_of_a_variable_is_refused_by_name_and_not_told(code: str, place: str, tmp_path: Path) -> None:
    with pytest.raises(KitaruDeployError, match=f"{place} of flows.py:f holds the value of .* MODEL_KEY") as refused:
        described(tmp_path, code, MODEL_KEY=SECRET)

    assert SECRET not in f"{refused.value.message} {refused.value.hint} {refused.value.detail}"


@pytest.mark.parametrize(
    "default",
    [
        "time.time_ns()", "datetime.date.today().isoformat()", "uuid.uuid4().hex", 'os.environ["HOME"]',
        'str(Path("~/data").expanduser())', "os.getpid()",
    ],
)  # fmt: skip
def test_what_is_another_at_each_import_is_refused(default: str, tmp_path: Path) -> None:
    with pytest.raises(KitaruDeployError, match="the default of it of"):
        described(tmp_path, f"@flow\ndef f(it: object = {default}): ...")


def test_an_import_that_finds_in_use_what_it_needs_is_made_once_more(tmp_path: Path) -> None:
    code = f"""
    import fcntl
    lock = open({str(tmp_path / "lock")!r}, "w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    time.sleep(0.1)

    @flow
    def f(n: int): ...
    """

    assert described(tmp_path, code).flow == "f"


def test_an_import_that_needs_the_home_folder_is_compared_with_nothing(tmp_path: Path) -> None:
    code = f"""
    assert os.environ["HOME"] == {str(Path.home())!r}

    @flow
    def f(n: int): ...
    """

    assert described(tmp_path, code).flow == "f"


def test_a_description_may_be_longer_than_a_pipe_holds(tmp_path: Path) -> None:
    found = described(tmp_path, f"@flow\ndef f(it: str = {'x' * 200_000!r}): ...")

    assert len(found.input_schema["properties"]["it"]["default"]) == 200_000
