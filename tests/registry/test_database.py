"""The database as many threads share it."""

from __future__ import annotations

import threading

from kitaru_registry.database.opening import open_database
from kitaru_registry.executions import reading
from kitaru_registry.home import Home

THREADS = 12
READS = 20


def test_a_thread_does_not_close_the_connection_that_another_one_uses(home: Home) -> None:
    database = open_database(home, synchronous="OFF")
    raised: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(READS):
                assert reading.running_executions(database) == []
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=read) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.close()

    assert raised == []
