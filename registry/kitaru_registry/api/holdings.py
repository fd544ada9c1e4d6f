"""What a registry of this machine answers from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from kitaru_registry.home import Home

if TYPE_CHECKING:
    from kitaru_registry.database.opening import Database
    from kitaru_registry.records.values import Values
    from kitaru_registry.stores.layout import OciLayout


@dataclass(frozen=True)
class Holdings:
    database: Database

    @property
    def home(self) -> Home:
        return self.database.home

    @cached_property
    def values(self) -> Values:
        from kitaru_registry.executions.values import values_of

        return values_of(self.database)

    @cached_property
    def layout(self) -> OciLayout:
        from kitaru_registry.stores.layout import OciLayout

        return OciLayout(self.home.layout)
