"""Random flow programs under random schedules, with crashes at random writes, come to what a model says.

SEED=106 pytest tests/runner/test_random_programs.py runs one alone. The other half is in test_other_random_programs.py.
"""

from __future__ import annotations

import pytest
from seeds import check_group, groups, name_of_group


@pytest.mark.parametrize("seeds", groups(0), ids=name_of_group)
def test_a_random_program_comes_to_what_one_that_never_crashes_comes_to(seeds: range) -> None:
    check_group(seeds)
