"""A checkpoint beside one raw commit: 1,000 no-op steps one after another, in process and deployed. Bytes a step."""

from __future__ import annotations

from measuring import Figure, Target, report
from places import RawJournal, database_bytes, place

STEPS = 1000
ROUNDS = 5


def measure(synchronous: str, *, in_process: tuple[Target, ...], deployed: tuple[Target, ...]) -> list[Figure]:
    raw_name = f"one raw commit, SQLite WAL, {synchronous}"
    here = Figure(f"a checkpoint in process, {synchronous}", beside=raw_name, targets=in_process)
    there = Figure(f"a checkpoint deployed, {synchronous}", beside=raw_name, targets=deployed)
    above = Figure(
        f"the same, {synchronous}: deployed beside in process",
        beside=f"a checkpoint in process, {synchronous}",
        targets=(Target("more", 0.2),),
    )
    size = Figure("bytes of database a step", unit="bytes", targets=(Target("value", 300),))
    with place(synchronous=synchronous, flows=["sequential"]) as found:
        from flows import sequential  # type: ignore[import-not-found]  # of the project that was just made

        raw = RawJournal(found.home.root, synchronous)
        found.invoke("sequential", steps=1)
        for _ in range(ROUNDS):
            before = database_bytes(found.home)
            limit = raw.commits(STEPS)
            own = sequential.run(STEPS).wait()
            size.add((database_bytes(found.home) - before) / STEPS)
            remote = found.invoke("sequential", steps=STEPS)
            here.add(own, limit)
            there.add(remote, limit)
            above.add(remote, own)
        raw.close()
    return [here, there, above, size]


if __name__ == "__main__":
    full = measure("FULL", in_process=(Target("ratio", 1.3),), deployed=())
    normal = measure("NORMAL", in_process=(Target("value", 0.2),), deployed=(Target("value", 0.4),))
    report(__file__, [*full, *normal[:3]])
