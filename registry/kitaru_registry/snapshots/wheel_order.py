"""Which of several wheels of one release an installer takes: uv's order of tags, written out.

`packaging` says what this machine can run. The order is ours, so that another release of `packaging` packs no other
wheel, and so that what was tested in an environment of uv's is what is packed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

GLIBC = re.compile(r"manylinux_(\d+)_(\d+)_(\w+)")
GLIBC_ALIASES = re.compile(r"manylinux(2014|2010|1)_(\w+)")
OLD_NAMES = {"2014": (2, 17), "2010": (2, 12), "1": (2, 5)}
MUSL = re.compile(r"musllinux_(\d+)_(\d+)_(\w+)")
FIRST_STABLE_ABI = 2
"""CPython 3.2."""


def tags_in_order(python: tuple[int, int], platforms: Iterable[str]) -> Iterator[str]:
    """Tags of wheels that CPython `python` installs, the best first, as `cp311-abi3-manylinux_2_17_x86_64`.

    Args:
        platforms: the platform tags of the machine, in any order.
    """
    major, minor = python
    own = f"cp{major}{minor}"
    here = platforms_in_order(platforms)
    yield from (f"{own}-{own}-{platform}" for platform in here)
    for older in range(minor, FIRST_STABLE_ABI - 1, -1):
        yield from (f"cp{major}{older}-abi3-{platform}" for platform in here)
        if older == minor:
            yield from (f"{own}-none-{platform}" for platform in here)
    for tag in _generic(major, minor):
        yield from (f"{tag}-none-{platform}" for platform in here)
    yield f"{own}-none-any"
    yield from (f"{tag}-none-any" for tag in _generic(major, minor))


def platforms_in_order(platforms: Iterable[str]) -> list[str]:
    """The newest C library that is there first, `linux_*` last, but first beside musl; others stay as they came."""
    given = list(platforms)
    musl = any(MUSL.fullmatch(platform) for platform in given)
    places = {platform: (_place(platform, musl=musl), number) for number, platform in enumerate(given)}
    return sorted(places, key=lambda platform: places[platform])


def _generic(major: int, minor: int) -> Iterator[str]:
    """`py311`, `py3`, `py310`, ..., `py30`."""
    yield f"py{major}{minor}"
    yield f"py{major}"
    yield from (f"py{major}{older}" for older in range(minor - 1, -1, -1))


def _place(platform: str, *, musl: bool) -> tuple[int, int, int, int]:
    if found := GLIBC.fullmatch(platform):
        return (1, -int(found[1]), -int(found[2]), 0)
    if found := GLIBC_ALIASES.fullmatch(platform):
        major, minor = OLD_NAMES[found[1]]
        return (1, -major, -minor, 1)
    if found := MUSL.fullmatch(platform):
        return (1, -int(found[1]), -int(found[2]), 0)
    if platform.startswith("linux_"):
        return (0, 0, 0, 0) if musl else (2, 0, 0, 0)
    return (1, 0, 0, 0)
