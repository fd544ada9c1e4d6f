"""Invoke a deployed no-op on a warm runner, from the call to the result, beside the start of a bare Python."""

from __future__ import annotations

import sys

from measuring import Figure, Target, milliseconds, report
from places import place, process

ROUNDS = 30


def main() -> None:
    target = Target("value", 8)
    figure = Figure("invoke a deployed no-op, call to result", beside="python -I -S -c pass", targets=(target,))
    with place(flows=["noop"]) as found:
        for _ in range(3):
            found.invoke("noop")
        for _ in range(ROUNDS):
            bare = process(sys.executable, "-I", "-S", "-c", "pass")
            figure.add(milliseconds(lambda: found.invoke("noop")), bare)
    report(__file__, [figure])


if __name__ == "__main__":
    main()
