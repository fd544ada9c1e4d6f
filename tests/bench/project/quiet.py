"""Nothing but Kitaru."""

from kitaru import flow


@flow
def noop() -> None:
    return None
