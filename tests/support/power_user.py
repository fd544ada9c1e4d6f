"""Whoever uses Kitaru on a disk whose power may go: `python power_user.py EXEC_ID|-` invokes, answers, and waits.

Tells what it was told, in the same file as the flow: an `invoked`, `answered` or `ended` there is a promise.
"""

from __future__ import annotations

import os
import sys
import time

from kitaru.client import KitaruClient

ROUNDS = 4
POLL_SECONDS = 0.01


def tell(event: str, label: str, detail: str = "-") -> None:
    with open(os.environ["SOAK_TRACE"], "a") as trace:  # noqa: PTH123 one write, appended
        trace.write(f"{event} {label} {detail}\n")


def main() -> None:
    client = KitaruClient()
    exec_id = sys.argv[1]
    if exec_id == "-":
        exec_id = client.deployments.invoke(flow="careful", inputs={"rounds": ROUNDS}).exec_id
        tell("invoked", exec_id)
    while (status := client.executions.status(exec_id)) not in ("completed", "failed", "cancelled"):
        if status == "waiting":
            for wait in client.waits.list(exec_id=exec_id):
                client.executions.input(exec_id, wait=wait.key, value=True)
                tell("answered", wait.key)
        time.sleep(POLL_SECONDS)
    tell("ended", exec_id, status)


if __name__ == "__main__":
    main()
