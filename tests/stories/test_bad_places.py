"""Homes that cannot hold what they should, and machines that lack something: one message, and nothing half-written."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Cli

from kitaru_registry.database.opening import Database, open_database
from kitaru_registry.errors import KitaruBackendError
from kitaru_registry.home import NETWORK_FILE_SYSTEMS, Home, file_system_of, prepare

NOBODY = 65534

FLOW = "from kitaru import flow\n\n\n@flow\ndef greet() -> str:\n    return 'hello'\n"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and other users need root; CI runs as root")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@as_root
def test_a_full_disk_at_deploy_is_one_message_and_no_version(run_cli: Cli, tiny_disk: Path) -> None:
    (run_cli.folder / "flows.py").write_text(FLOW)
    on_disk = Cli(run_cli.executable, Home(tiny_disk / "home"), run_cli.folder)

    said = on_disk("deploy", "flows.py:greet", expect=1)

    assert "disk" in f"{said.error['message']} {said.error['hint']}"
    assert str(tiny_disk) in said.error["message"] + said.error["hint"]
    assert on_disk("flows").items == []


@as_root
def test_a_full_disk_at_a_write_to_the_record_leaves_it_as_it_was(tiny_disk: Path) -> None:
    database = open_database(Home(tiny_disk / "home"))
    fill(tiny_disk)

    with pytest.raises(KitaruBackendError, match="is full; nothing of this was written"):
        write_a_lot(database)

    with database.read() as connection:
        tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name = 'notes'").all()
    assert tables == []
    database.close()


def fill(disk: Path) -> None:
    descriptor = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(descriptor, bytes(4096))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(descriptor)


def write_a_lot(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE notes (content)")
        for _ in range(100):
            connection.exec_driver_sql("INSERT INTO notes VALUES (randomblob(8192))")


@as_root
def test_a_home_that_is_not_writable_is_named(run_cli: Cli, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o005)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(NOBODY)
        try:
            prepare(Home(locked / "home"))
        except KitaruBackendError as error:
            os.write(write_end, f"{error.message}\n{error.hint}".encode())
        os._exit(0)
    os.close(write_end)
    os.waitpid(child, 0)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()

    assert said.startswith(f"the home {locked / 'home'} is not writable")
    assert "set KITARU_HOME" in said


def test_a_network_file_system_is_recognised(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text(
        f"/dev/vda / ext4 rw 0 0\nserver:/export {tmp_path} nfs4 rw 0 0\ntmpfs {tmp_path}/local tmpfs rw 0 0\n"
    )

    assert file_system_of(tmp_path / "home", table) in NETWORK_FILE_SYSTEMS
    assert file_system_of(tmp_path / "local" / "home", table) == "tmpfs"
    assert file_system_of(tmp_path / "home", tmp_path / "no-such-table") is None


def test_a_database_of_a_newer_schema_is_left_alone(run_cli: Cli) -> None:
    run_cli("status")
    with sqlite3.connect(run_cli.home.database) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    said = run_cli("executions", "list", expect=1)

    assert "has schema 99" in said.error["message"]
    assert "upgrade" in said.error["hint"]


def test_a_file_that_is_no_database_is_named(run_cli: Cli) -> None:
    run_cli.home.database.write_bytes(b"not a database" * 100)

    said = run_cli("status", expect=1)

    assert str(run_cli.home.database) in said.error["message"]


def test_a_python_that_is_not_on_this_machine_is_named(run_cli: Cli) -> None:
    (run_cli.folder / "flows.py").write_text(FLOW)
    (run_cli.folder / "kitaru.toml").write_text('[flows.greet]\nentrypoint = "flows.py:greet"\npython = "3.99"\n')

    said = run_cli("deploy", "greet", expect=1)

    assert "3.99" in said.error["message"]
    assert run_cli("flows").items == []


def test_no_repository_and_a_dirty_tree_are_allowed_and_recorded(run_cli: Cli) -> None:
    (run_cli.folder / "flows.py").write_text(FLOW)

    assert run_cli("deploy", "flows.py:greet").item["git"] is None

    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], cwd=run_cli.folder, check=True)
    (run_cli.folder / "flows.py").write_text(FLOW.replace("hello", "good day"))
    deployed = run_cli("deploy", "flows.py:greet").item

    assert deployed["version"] == 2
    assert deployed["git"]["dirty"] is True
    assert deployed["git"]["commit"] is not None
