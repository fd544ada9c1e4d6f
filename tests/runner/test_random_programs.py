"""Random flow programs under random schedules, with crashes at random writes, come to what a model says."""

from __future__ import annotations

import os

import pytest
from trials import check_seed, memory_home


def test_seeds(seed_home):
    for seed in range(int(os.environ.get("SEEDS", "100"))):
        check_seed(seed_home, seed)


@pytest.fixture
def seed_home():
    with memory_home() as home:
        yield home
