"""Something to do as soon as a module is imported: at once where it is, or when the flow's code does it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class AfterImport:
    """A finder of modules that finds none, but sees them come."""

    def __init__(self, acts: dict[str, Callable[[], None]]) -> None:
        self._acts = acts

    def begin(self) -> None:
        for name, act in self._acts.items():
            if name in sys.modules:
                act()
        sys.meta_path.insert(0, self)

    def end(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        act = self._acts.get(name)
        if act is None:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                then(spec, act)
                return spec
        return None


def then(spec: ModuleSpec, act: Callable[[], None]) -> None:
    loader = spec.loader
    assert loader is not None
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        act()

    loader.exec_module = exec_module  # type: ignore[method-assign]  # of this one import's loader
