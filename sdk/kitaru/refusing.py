"""What the process of a deployed flow has in place of modules that need the registry: it refuses when it is used.

A flow's file may import `KitaruClient` at its top, and use it elsewhere. Which modules this stands for is said in
kitaru_registry.snapshots.wheels.
"""

from __future__ import annotations

from typing import Any, NoReturn

from kitaru_registry.errors import KitaruContextError


class KitaruClient:
    def __init__(self, *args: Any, **options: Any) -> None:
        refuse()


def run_here(*args: Any, **options: Any) -> NoReturn:
    refuse()


replay_here = Request = run_here


def refuse() -> NoReturn:
    raise KitaruContextError(
        "a deployed flow's process has no access to the registry",
        hint="use KitaruClient where flows are started, not inside a deployed one",
    )
