"""Code is laid into, and taken away from, a folder in which its flow has put what it likes."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from kitaru_registry.snapshots.laying import lay_code, take_code_away

FILES = {"flow.py": b"flow", "data/config.json": b"snapshot", "data/deep/more.txt": b"more"}


def code() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    lay_code(code(), folder)
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of the user's that holds files of the same names, and a cache of bytecode."""
    folder = tmp_path / "mine"
    for name in ("config.json", "deep/more.txt", "__pycache__/mine.pyc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"precious")
    return folder


def test_what_was_laid_is_taken_away_and_what_the_flow_wrote_stays(work: Path) -> None:
    assert files_of(work) == FILES
    (work / "data" / "written.txt").write_bytes(b"by the flow")

    take_code_away(code(), work)

    assert files_of(work) == {"data/written.txt": b"by the flow"}
    (work / "data" / "written.txt").unlink()
    lay_code(code(), work)
    take_code_away(code(), work)
    assert not work.exists()


def replace_by(link: Path, target: Path) -> None:
    shutil.rmtree(link) if link.is_dir() else link.unlink()
    link.symlink_to(target)


@pytest.mark.parametrize("linked", ["data", "data/deep", "data/config.json", "."])
def test_files_behind_a_link_that_the_flow_has_made_are_left_alone(linked: str, work: Path, mine: Path) -> None:
    before = files_of(mine)
    replace_by(work / linked if linked != "." else work, mine / "config.json" if linked.endswith("json") else mine)

    take_code_away(code(), work)
    assert files_of(mine) == before

    lay_code(code(), work)
    assert files_of(mine) == before
    assert {name: content for name, content in files_of(work).items() if name in FILES} == FILES


def test_a_link_to_bytecode_elsewhere_is_not_followed(work: Path, mine: Path) -> None:
    (work / "data" / "__pycache__").symlink_to(mine / "__pycache__")

    take_code_away(code(), work)

    assert (mine / "__pycache__" / "mine.pyc").exists()


def test_a_file_in_the_place_of_a_folder_and_a_folder_in_that_of_a_file_give_way(work: Path) -> None:
    shutil.rmtree(work / "data")
    (work / "data").write_bytes(b"a file")
    (work / "flow.py").unlink()
    (work / "flow.py" / "below").mkdir(parents=True)

    take_code_away(code(), work)
    assert (work / "data").read_bytes() == b"a file"
    assert (work / "flow.py" / "below").is_dir()

    lay_code(code(), work)
    assert files_of(work) == FILES


def test_what_was_laid_can_be_written_by_the_flow(work: Path) -> None:
    assert os.access(work / "data" / "config.json", os.W_OK)
    (work / "data" / "config.json").write_bytes(b"changed")

    lay_code(code(), work)

    assert files_of(work) == FILES
