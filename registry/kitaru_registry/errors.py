"""Every error that Kitaru raises on purpose.

    KitaruError
    ├── KitaruUsageError (ValueError)              2  the call or the input is wrong
    │   ├── KitaruWaitValidationError              2  an answer does not fit its wait's schema
    │   └── KitaruFeatureNotAvailableError         2  it has a meaning that this release does not offer
    ├── KitaruContextError (RuntimeError)          2  called where it has no meaning
    ├── KitaruNotFoundError (LookupError)          3  no such flow, version, tag, execution, ...
    ├── KitaruStateError (RuntimeError)            4  the thing is in a state that forbids it
    │   ├── KitaruConflictError                    4  somebody else was first
    │   │   └── KitaruFencedError                  4  a newer attempt owns the execution
    │   └── KitaruNotFinishedError                 6  still running, or waiting for input
    ├── KitaruBackendError                         1  storage, network, or a tool below us failed
    │   ├── KitaruDigestMismatchError              1  bytes differ from their digest
    │   └── KitaruLogRetrievalError                1  an execution's log cannot be read
    └── KitaruRuntimeError (RuntimeError)          1
        ├── KitaruDeployError                      2  the flow's code or dependencies cannot be deployed
        ├── KitaruTimeoutError (TimeoutError)      1  a checkpoint, or an execution, took longer than it may
        ├── KitaruCrashError                       1  the process of an isolated checkpoint was killed, or exited
        ├── KitaruChangedArgumentError             1  a checkpoint changed one of its arguments
        ├── KitaruWaitTimeout (TimeoutError)       1  a wait expired, and has no default
        ├── KitaruWaitAborted                      1  somebody aborted the wait
        └── KitaruExecutionError                   1  an execution ended without a result
            ├── KitaruUserCodeError                1  the flow's own code raised
            └── KitaruDivergenceError              1  the code went another way than its journal

The number is the command line's exit code. A child process imports this module: standard library only.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class FailureOrigin(StrEnum):
    """Where a failure came from: `failure_origin` of an error, `origin` of a recorded one."""

    USER_CODE = "user_code"
    DIVERGENCE = "divergence"
    CRASHED = "crashed"
    RUNTIME = "runtime"
    BACKEND = "backend"
    UNKNOWN = "unknown"


class KitaruError(Exception):
    """Base of all: a message that names the thing, and a hint that is the next command or step."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class KitaruUsageError(KitaruError, ValueError):
    exit_code = 2


class KitaruWaitValidationError(KitaruUsageError):
    """An answer does not fit its wait's schema; the wait stays open."""


class KitaruFeatureNotAvailableError(KitaruUsageError, NotImplementedError):
    """The original's documentation has it, and this release does not offer it; nothing was started."""


class KitaruContextError(KitaruError, RuntimeError):
    exit_code = 2


class KitaruNotFoundError(KitaruError, LookupError):
    exit_code = 3


class KitaruStateError(KitaruError, RuntimeError):
    exit_code = 4


class KitaruConflictError(KitaruStateError):
    """Somebody else was first; nothing of this call was written."""


class KitaruFencedError(KitaruConflictError):
    """A newer attempt owns the execution; this one must stop at once."""


class KitaruNotFinishedError(KitaruStateError):
    exit_code = 6


class KitaruBackendError(KitaruError):
    pass


class KitaruDigestMismatchError(KitaruBackendError):
    """Bytes differ from the digest that names them; they were not used."""

    def __init__(self, digest: str, place: str, *, found: str | None = None) -> None:
        detail = f" (found {found})" if found else ""
        super().__init__(
            f"the bytes of {digest} in {place} do not match their digest{detail}",
            hint="the store is damaged: restore that blob, or delete it and deploy again",
        )
        self.digest = digest


class KitaruLogRetrievalError(KitaruBackendError):
    pass


class KitaruRuntimeError(KitaruError, RuntimeError):
    pass


class KitaruDeployError(KitaruRuntimeError):
    """The flow's code or its dependencies cannot be deployed. `detail` is text to show as it is: the
    user's own traceback, or the resolver's explanation. `module` is the one that an import did not find."""

    exit_code = 2

    def __init__(
        self, message: str, *, hint: str | None = None, detail: str | None = None, module: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.detail = detail
        self.module = module


class KitaruTimeoutError(KitaruRuntimeError, TimeoutError):
    """A try of a checkpoint took longer than its `timeout`, or an execution longer than its `finish_timeout`."""


class KitaruCrashError(KitaruRuntimeError):
    """The process of a try under `runtime="isolated"` ended without an outcome.

    `signal` names what killed it (`SIGKILL`, `SIGSEGV`); else it exited by itself, with `exit_status`.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, signal: str | None = None, exit_status: int | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.signal = signal
        self.exit_status = exit_status


class KitaruChangedArgumentError(KitaruRuntimeError):
    """A checkpoint changed one of its arguments, which a replay, where it does not execute, would not do.

    Its outcome is recorded; a retry executes it again.
    """


class KitaruWaitTimeout(KitaruRuntimeError, TimeoutError):
    """Nobody answered a wait in time, and it has no default."""


class KitaruWaitAborted(KitaruRuntimeError):
    """Somebody ended a wait without an answer."""


class KitaruExecutionError(KitaruRuntimeError):
    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        exec_id: str | None = None,
        status: str | None = None,
        failure_origin: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.exec_id = exec_id
        self.status = status
        self.failure_origin = failure_origin


class KitaruUserCodeError(KitaruExecutionError):
    pass


class KitaruDivergenceError(KitaruExecutionError):
    pass
