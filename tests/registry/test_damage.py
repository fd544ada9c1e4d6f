"""A damaged database is one error that says what to do, whoever comes upon it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import text

from kitaru import KitaruClient
from kitaru_registry.database.opening import open_database
from kitaru_registry.errors import KitaruBackendError, KitaruError
from kitaru_registry.executions import ending, queue, reading, waits
from kitaru_registry.home import Home

PAGE_BYTES = 4096
READS: dict[str, Callable[[KitaruClient, str], object]] = {
    "status": lambda client, _: client.status(),
    "doctor": lambda client, _: client.doctor(),
    "list": lambda client, _: client.executions.list(),
    "get": lambda client, exec_id: client.executions.get(exec_id),
    "waits": lambda client, _: client.waits.list(),
    "artifacts": lambda client, _: client.artifacts.search(),
    "cancel": lambda client, exec_id: client.executions.cancel(exec_id),
    "gc": lambda client, _: client.gc(),
    "fire": lambda client, _: waits.fire_due(client.database),
    "claim": lambda client, _: queue.claimable(client.database),
    "requests": lambda client, _: ending.cancel_requests(client.database),
    "look": lambda client, exec_id: reading.get_status(client.database, exec_id),  # type: ignore[arg-type]  # one
}


@pytest.fixture
def filled(tmp_path: Path, registry_home: Home) -> tuple[Home, str]:
    """A home with some hundred pages, and an execution in it."""
    from queues import Queue

    from kitaru_registry.executions.journal import JournalWriter

    database = open_database(registry_home, synchronous="OFF")
    writer = JournalWriter(database)
    own = Queue(database, writer)
    made = [own.new(status=status) for status in ("running", "waiting", "pending", "failed") * 20]
    for execution in made[::4]:
        execution.write("x" * 500, rows=20)
    writer.close()
    with database.write() as connection:
        connection.execute(text("UPDATE executions SET inputs = json_object('topic', hex(zeroblob(3000)))"))
    database.close()
    return registry_home, made[0].exec_id


def damage(database: Path, seed: int) -> None:
    """Overwrite random pages."""
    random = Random(seed)
    pages = database.stat().st_size // PAGE_BYTES
    with database.open("r+b") as file:
        for page in random.sample(range(pages), pages // 4):
            file.seek(page * PAGE_BYTES)
            file.write(random.randbytes(PAGE_BYTES))


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_asked_of_a_damaged_database_says_what_to_do(seed: int, filled: tuple[Home, str]) -> None:
    home, exec_id = filled
    damage(home.database, seed)
    said: list[KitaruError] = []

    for what, ask in READS.items():
        client = KitaruClient(home, cwd=home.root)
        try:
            ask(client, exec_id)
        except KitaruError as error:
            said.append(error)
        except Exception as error:
            raise AssertionError(f"{what} with seed {seed}") from error

    damages = [error for error in said if "is damaged" in error.message]
    assert damages, said
    assert all(".recover" in (error.hint or "") and "backup" in (error.hint or "") for error in damages)


def test_a_file_that_is_no_database_says_what_to_do(registry_home: Home) -> None:
    registry_home.root.mkdir(mode=0o700)
    registry_home.database.write_bytes(b"not a database" * 1000)

    with pytest.raises(KitaruBackendError, match="is damaged: file is not a database") as raised:
        open_database(registry_home)
    assert ".recover" in (raised.value.hint or "")
