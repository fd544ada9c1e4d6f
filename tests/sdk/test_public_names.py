"""What `import kitaru` promises."""

from __future__ import annotations

import subprocess
import sys

import pytest

import kitaru
from kitaru_registry import errors

NAMES = [
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


def test_the_public_names_are_these() -> None:
    assert sorted(kitaru.__all__) == NAMES
    assert dir(kitaru) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(kitaru, name)

    assert isinstance(value, str) or callable(value)
    if name.startswith("Kitaru") and name.endswith("Error"):
        assert issubclass(value, kitaru.KitaruError)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'kitaru' has no attribute 'workflow'"):
        kitaru.workflow  # noqa: B018


def test_errors_are_also_python_s_own() -> None:
    assert issubclass(kitaru.KitaruUsageError, ValueError)
    assert issubclass(kitaru.KitaruWaitValidationError, kitaru.KitaruUsageError)
    assert issubclass(kitaru.KitaruNotFoundError, LookupError)
    assert issubclass(kitaru.KitaruContextError, RuntimeError)
    assert issubclass(kitaru.KitaruStateError, RuntimeError)
    assert issubclass(kitaru.KitaruUserCodeError, kitaru.KitaruExecutionError)
    assert issubclass(kitaru.KitaruDivergenceError, kitaru.KitaruExecutionError)


def test_every_error_has_an_exit_code_of_the_contract() -> None:
    codes = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.KitaruError)
    }

    assert codes == {
        "KitaruError": 1, "KitaruUsageError": 2, "KitaruWaitValidationError": 2, "KitaruContextError": 2,
        "KitaruNotFoundError": 3, "KitaruStateError": 4, "KitaruConflictError": 4, "KitaruFencedError": 4,
        "KitaruNotFinishedError": 6, "KitaruBackendError": 1, "KitaruDigestMismatchError": 1,
        "KitaruRuntimeError": 1, "KitaruDeployError": 2, "KitaruExecutionError": 1, "KitaruUserCodeError": 1,
        "KitaruDivergenceError": 1, "KitaruTimeoutError": 1, "KitaruWaitTimeout": 1, "KitaruWaitAborted": 1,
        "KitaruFeatureNotAvailableError": 2, "KitaruLogRetrievalError": 1, "KitaruCrashError": 1,
        "KitaruChangedArgumentError": 1,
    }  # fmt: skip


def test_decorating_a_flow_loads_nothing_heavy() -> None:
    """What a child of a deployed flow pays before its first checkpoint."""
    program = """
import sys
from kitaru import checkpoint, flow
@checkpoint
def step(): ...
@flow
def body(): ...
print(*sorted({"sqlalchemy", "pydantic", "asyncio", "typer", "git", "cloudpickle"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
