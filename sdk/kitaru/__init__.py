"""Kitaru keeps Python agents running.

    from kitaru import checkpoint, flow, wait

Names are loaded when they are first used, so that `import kitaru` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kitaru.artifacts import load, log, save
    from kitaru.checkpoints import checkpoint
    from kitaru.client import KitaruClient
    from kitaru.execution import current_execution_id
    from kitaru.flows import flow
    from kitaru.handle import FlowHandle
    from kitaru.noted import now, random, uuid4
    from kitaru.waiting import Answer, sleep, sleep_until, wait, wait_any
    from kitaru_registry.errors import (
        FailureOrigin,
        KitaruBackendError,
        KitaruChangedArgumentError,
        KitaruConflictError,
        KitaruContextError,
        KitaruCrashError,
        KitaruDivergenceError,
        KitaruError,
        KitaruExecutionError,
        KitaruFeatureNotAvailableError,
        KitaruLogRetrievalError,
        KitaruNotFinishedError,
        KitaruNotFoundError,
        KitaruRuntimeError,
        KitaruStateError,
        KitaruTimeoutError,
        KitaruUsageError,
        KitaruUserCodeError,
        KitaruWaitAborted,
        KitaruWaitTimeout,
        KitaruWaitValidationError,
    )
    from kitaru_runner.engine.core.specs import Backoff
    from kitaru_runner.values.registered import register_codec

__version__ = "0.2.0"

_PLACES = {
    "flow": "kitaru.flows",
    "checkpoint": "kitaru.checkpoints",
    "wait": "kitaru.waiting",
    "wait_any": "kitaru.waiting",
    "sleep": "kitaru.waiting",
    "sleep_until": "kitaru.waiting",
    "Answer": "kitaru.waiting",
    "now": "kitaru.noted",
    "random": "kitaru.noted",
    "uuid4": "kitaru.noted",
    "Backoff": "kitaru_runner.engine.core.specs",
    "register_codec": "kitaru_runner.values.registered",
    "save": "kitaru.artifacts",
    "load": "kitaru.artifacts",
    "log": "kitaru.artifacts",
    "current_execution_id": "kitaru.execution",
    "FlowHandle": "kitaru.handle",
    "KitaruClient": "kitaru.client",
    "KitaruError": "kitaru_registry.errors",
    "KitaruUsageError": "kitaru_registry.errors",
    "KitaruContextError": "kitaru_registry.errors",
    "KitaruStateError": "kitaru_registry.errors",
    "KitaruConflictError": "kitaru_registry.errors",
    "KitaruNotFinishedError": "kitaru_registry.errors",
    "KitaruNotFoundError": "kitaru_registry.errors",
    "KitaruBackendError": "kitaru_registry.errors",
    "KitaruRuntimeError": "kitaru_registry.errors",
    "KitaruExecutionError": "kitaru_registry.errors",
    "KitaruUserCodeError": "kitaru_registry.errors",
    "KitaruDivergenceError": "kitaru_registry.errors",
    "KitaruWaitValidationError": "kitaru_registry.errors",
    "KitaruTimeoutError": "kitaru_registry.errors",
    "KitaruFeatureNotAvailableError": "kitaru_registry.errors",
    "KitaruLogRetrievalError": "kitaru_registry.errors",
    "FailureOrigin": "kitaru_registry.errors",
    "KitaruChangedArgumentError": "kitaru_registry.errors",
    "KitaruCrashError": "kitaru_registry.errors",
    "KitaruWaitTimeout": "kitaru_registry.errors",
    "KitaruWaitAborted": "kitaru_registry.errors",
}

__all__ = [
    "Answer",
    "Backoff",
    "FailureOrigin",
    "FlowHandle",
    "KitaruBackendError",
    "KitaruChangedArgumentError",
    "KitaruClient",
    "KitaruConflictError",
    "KitaruContextError",
    "KitaruCrashError",
    "KitaruDivergenceError",
    "KitaruError",
    "KitaruExecutionError",
    "KitaruFeatureNotAvailableError",
    "KitaruLogRetrievalError",
    "KitaruNotFinishedError",
    "KitaruNotFoundError",
    "KitaruRuntimeError",
    "KitaruStateError",
    "KitaruTimeoutError",
    "KitaruUsageError",
    "KitaruUserCodeError",
    "KitaruWaitAborted",
    "KitaruWaitTimeout",
    "KitaruWaitValidationError",
    "__version__",
    "checkpoint",
    "current_execution_id",
    "flow",
    "load",
    "log",
    "now",
    "random",
    "register_codec",
    "save",
    "sleep",
    "sleep_until",
    "uuid4",
    "wait",
    "wait_any",
]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'kitaru' has no attribute {name!r}")
    value = getattr(importlib.import_module(place), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
