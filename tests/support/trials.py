"""One random program, run as its seed says, and compared with its model."""

from __future__ import annotations

from random import Random

from families import Family
from generating import program_of
from homes import Home
from judging import judges
from programs import Program
from replayed_programs import Replayed, is_replayed

from kitaru.testing.clocks import Clock


class Trial:
    """
    Args:
        seed: of the schedule; of the program too, unless that is given.
    """

    def __init__(self, home: Home, seed: int, program: Program | None = None) -> None:
        self.home = home
        self.program = program or program_of(seed)
        self.seed = seed

    def run(self) -> None:
        with Clock() as clock:
            self.family = Family(self.home, self.seed, self.program, Random(f"schedule {self.seed}"), clock)
            self.family.run()

    def check(self) -> None:
        for judge in judges(self.home, self.family).values():
            judge.check()


def check_seed(home: Home, seed: int, program: Program | None = None) -> None:
    """Run a seed's program, or another as that seed schedules it, and compare it with its model."""
    trial = Trial(home, seed, program)
    trial.run()
    trial.check()
    if is_replayed(trial.family):
        Replayed(home, trial.family).check()
