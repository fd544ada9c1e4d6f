"""Which seeds a run of the tests tries, and what it says of one that fails.

SEED=106 tries that one alone. `make soak` (KITARU_SOAK) tries others than `make test`, and others in each of its turns
(SOAK_SEED).
"""

from __future__ import annotations

import os

from homes import memory_home
from trials import check_seed

SEEDS = 1000
SOAK_SEEDS = 2000
"""In each turn, of which there are ten."""

FILES = 2
"""The seeds are spread over as many files, which processes of their own may run."""

GROUP = 50
TEST = "tests/runner/test_random_programs.py"


def groups(file: int) -> list[range]:
    """The seeds of one of the files."""
    if "SEED" in os.environ:
        seed = int(os.environ["SEED"])
        return [range(seed, seed + 1)] if file == 0 else []
    first, count = 0, SEEDS
    if os.environ.get("KITARU_SOAK"):
        first, count = 100_000 * (1 + int(os.environ.get("SOAK_SEED", "0"))), SOAK_SEEDS
    begins = range(first, first + count, GROUP)
    return [range(begin, begin + GROUP) for begin in begins[file::FILES]]


def name_of_group(seeds: range) -> str:
    return f"seeds {seeds[0]} to {seeds[-1]}"


def check_group(seeds: range) -> None:
    """
    Raises:
        AssertionError: one fails; what is wrong with it, and how to see it again.
    """
    with memory_home() as home:
        for seed in seeds:
            try:
                check_seed(home, seed)
            except BaseException as error:
                raise AssertionError(f"seed {seed}: {error!r}\nalone: SEED={seed} pytest {TEST}") from error
