"""A key names one call."""

from __future__ import annotations

import pytest
from queues import Queue

from kitaru_registry.errors import KitaruUsageError


@pytest.mark.parametrize("key", ["", " ", "\n\t", "r\udce9sum\udce9", "\0", "k" * 5_000, 7])
def test_an_idempotency_key_that_names_no_call_is_refused(queue: Queue, key: str) -> None:
    """An unset variable of a shell gives an empty one: with it every call would be the first."""
    with pytest.raises(KitaruUsageError, match="idempotency key"):
        queue.new(key=key)
