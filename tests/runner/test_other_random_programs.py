"""The other half of the seeds of test_random_programs.py: a file is what one process runs."""

from __future__ import annotations

import pytest
from seeds import check_group, groups, name_of_group


@pytest.mark.parametrize("seeds", groups(1), ids=name_of_group)
def test_a_random_program_comes_to_what_one_that_never_crashes_comes_to(seeds: range) -> None:
    check_group(seeds)
