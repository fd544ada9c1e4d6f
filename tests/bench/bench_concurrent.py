"""100 checkpoints of 10 ms side by side, on a loop and in threads, beside the same without Kitaru."""

from __future__ import annotations

import asyncio
import threading
import time

from measuring import Figure, Target, milliseconds, report
from places import place

STEPS = 100
ROUNDS = 9


def on_a_loop() -> None:
    async def body() -> None:
        await asyncio.gather(*[asyncio.sleep(0.010) for _ in range(STEPS)])

    asyncio.run(body())


def in_threads() -> None:
    threads = [threading.Thread(target=time.sleep, args=(0.010,)) for _ in range(STEPS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    target = (Target("value", 50),)
    plain = {"gathered": ("100 asyncio.sleep(0.010)", on_a_loop), "mapped": ("100 threads, 10 ms each", in_threads)}
    words = {"gathered": "gather", "mapped": ".map"}
    figures = []
    with place(flows=list(plain)) as found:
        import flows  # type: ignore[import-not-found]  # of the project that was just made

        for flow, (name, limit) in plain.items():
            here = Figure(f"100 checkpoints of 10 ms by {words[flow]}, in process", beside=name, targets=target)
            there = Figure(f"100 checkpoints of 10 ms by {words[flow]}, deployed", beside=name, targets=target)
            found.invoke(flow, steps=1)
            for _ in range(ROUNDS):
                plainly = milliseconds(limit)
                here.add(getattr(flows, flow).run(STEPS).wait(), plainly)
                there.add(found.invoke(flow, steps=STEPS), plainly)
            figures += [here, there]
    report(__file__, figures)


if __name__ == "__main__":
    main()
