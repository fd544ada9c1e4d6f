"""A flow without its verbs: what it is called, what it takes, what it calls, and where it is."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from kitaru.decorating import Decorated, own_name, require_function, signature_of
from kitaru.flow_options import FlowOptions
from kitaru_registry.errors import KitaruUsageError


class FlowDefinition(Decorated):
    """What a `Flow` is to all that executes it."""

    def __init__(self, function: Callable[..., Any], options: FlowOptions) -> None:
        require_function(function, "@flow")
        functools.update_wrapper(self, function)  # type: ignore[arg-type]  # a `Flow` can be called
        self.options = options
        self.function = function
        self.name: str = own_name(function)
        self.signature = signature_of(function, "@flow")

    @property
    def file(self) -> Path | None:
        code = getattr(self.function, "__code__", None)
        path = Path(code.co_filename) if code is not None else None
        return path.resolve() if path is not None and path.is_file() else None

    def bind(self, *args: Any, **kwargs: Any) -> Mapping[str, Any]:
        """Arguments by name, without defaults; those of `*args` under that name."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise KitaruUsageError(f"{self.name}: {error}", hint=f"it takes {self.name}{self.signature}") from error
        inputs: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = self.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                inputs.update(value)
            elif kind is inspect.Parameter.VAR_POSITIONAL or kind is inspect.Parameter.POSITIONAL_ONLY:
                given = list(value) if kind is inspect.Parameter.VAR_POSITIONAL else [value]
                inputs["*args"] = [*inputs.get("*args", []), *given]
            else:
                inputs[name] = value
        return spread_before_varargs(self.signature, inputs)


def spread_before_varargs(signature: inspect.Signature, inputs: dict[str, Any]) -> dict[str, Any]:
    """Parameters before `*args` must be passed by position, or the first of `*args` would take their place."""
    has_varargs = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in signature.parameters.values())
    if not has_varargs or "*args" not in inputs:
        return inputs
    leading = [n for n, p in signature.parameters.items() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    named = [inputs.pop(name) for name in leading if name in inputs]
    inputs["*args"] = [*named, *inputs["*args"]]
    return inputs


called: ContextVar[FlowDefinition | None] = ContextVar("kitaru_called_flow", default=None)
"""The flow whose `.run()` is under way in an execution from source; not every flow has a file to find it by."""
