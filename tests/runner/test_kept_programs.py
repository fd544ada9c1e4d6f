"""The programs that once failed go on as they should, under many schedules."""

from __future__ import annotations

import pytest
from homes import memory_home
from kept import KEPT, SCHEDULES
from trials import check_seed


@pytest.mark.parametrize("name", KEPT)
def test_what_once_failed_holds(name: str) -> None:
    with memory_home() as home:
        for schedule in range(SCHEDULES):
            check_seed(home, schedule, KEPT[name])
