"""What is recorded of an execution, and what is asked of whoever records it. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple


class Kind:
    """What an entry says; the letter is what a journal and its protocol hold."""

    CALL: Final = "c"
    """The outcome of a call of a checkpoint."""
    TRY: Final = "t"
    """A try of such a call failed, and another follows."""
    WAIT: Final = "w"
    """The outcome of a wait, of a sleep, or of waiting for a child execution."""
    SAVE: Final = "s"
    """An artifact was saved in the flow's body."""
    LOG: Final = "l"
    """Metadata was logged in the flow's body."""
    NOTE: Final = "n"
    """A value was noted: now, random, uuid4, an artifact that was loaded."""
    CHILD: Final = "x"
    """A child execution was made, or refused."""
    REMARK: Final = "d"
    """A warning, or something else that is said beside a call."""
    ENDED: Final = "e"
    """A timer or a thread of the flow's own came to its end."""
    RETRY: Final = "r"
    """The execution was retried, by whom and what for."""
    ACCEPTED: Final = "a"
    """A divergence was accepted."""


OF_CALLS = frozenset({Kind.CALL, Kind.TRY})
"""Entries that a try of a checkpoint ends with."""

DIGEST_CODEC = "digest"
"""The "value" of a checkpoint under `record="digest"`: its sha256."""


class Encoded(NamedTuple):
    """A value as bytes, and the name of the codec that reads them."""

    codec: str
    data: bytes


class Saved(NamedTuple):
    """One `save(...)`: an artifact that becomes durable with the entry that carries it."""

    name: str
    type: str
    tags: tuple[str, ...]
    value: Encoded


@dataclass(frozen=True, slots=True)
class Loaded:
    """An artifact of any execution, as bytes."""

    value: Encoded
    artifact_id: str
    is_ours: bool
    """Whether what is pickled may be read: the home is this user's own, or the same snapshot wrote it."""


REPLAY_NEVER = 1
"""A flag: a replay reuses this outcome wherever it stands, and never executes the checkpoint."""

DIGEST_ONLY = 2
"""A flag: the value was not kept, only its digest."""

GIVEN = 4
"""A flag: the outcome was given for a replay, and is used whatever the arguments are."""

ARGUMENT_CHANGED = 8
"""A flag: the call changed its arguments, which is an error; `KEY!changed` says which."""


class Entry(NamedTuple):
    """One row of a journal; see Kind for what there is."""

    kind: str
    key: str
    ended_us: int
    value: Encoded | None = None
    place: int | None = None
    """How many calls its scope had made before."""
    inputs: bytes | None = None
    started_us: int | None = None
    # What most checkpoints have ends here.
    name: str | None = None
    """Where it is not the key's own last part."""
    seq: int = 0
    error: Mapping[str, Any] | None = None
    tries: int | None = None
    type: str | None = None
    saved: tuple[Saved, ...] = ()
    metadata: Mapping[str, Any] | None = None
    size: int | None = None
    """Of a value that was not sent along."""
    cache_key: bytes | None = None
    parents: tuple[str, ...] = ()
    """Keys of the outcomes that were passed to this call."""
    flags: int = 0
    soft: bool = False
    """Recorded behind a failure that was superseded: used where the same call is made again, otherwise passed over."""


COMMON = 7
"""So many fields, the first, are all that most entries have."""

NOTHING_RARE = Entry("", "", 0)[COMMON:]


@dataclass(frozen=True, slots=True)
class WaitRequest:
    key: str
    name: str
    question: str | None
    schema: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    entered_us: int
    kind: str = "input"
    """`input`, `sleep`, or `child`: a child execution's end."""
    deadline_us: int | None = None
    any_of: str | None = None
    """The key that the first answer of a group goes to; the others are closed."""
    child: str | None = None
    """The child execution's id."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a wait."""

    data: bytes
    """The answer as JSON; of no meaning unless answered."""
    outcome: str = "answered"
    """`answered`, `expired`, `aborted`"""
    key: str = ""
    """Of the call that got it, once it has one."""


@dataclass(frozen=True, slots=True)
class ChildRequest:
    """A child execution to be: of a flow of the same code (`entrypoint`), or of a deployed one (tag or version)."""

    key: str
    place: int
    flow: str
    inputs: Encoded
    entrypoint: str | None = None
    tag: str | None = None
    version: str | None = None
    options: Mapping[str, Any] | None = None
    """What `@flow(...)` and `.run(...)` say: retries, cache, finish_timeout."""
    digest: bytes | None = None
    """Of the inputs, to notice other ones on a replay."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution ended: a value, or an error as `codec.describe_failure` gives it."""

    value: Encoded | None
    error: Mapping[str, Any] | None
    status: str = "ended"
    """Of a child execution that was asked for: its status."""


@dataclass(frozen=True, slots=True)
class Opening:
    exec_id: str
    attempt: int
    flow: str
    entrypoint: str
    retries: int
    inputs: Encoded
    entries: Sequence[Entry]
    cache: bool | None = None
    """What the execution says of `cache=`; None: as each checkpoint says."""
    code: str = ""
    """Digest of the code that runs, for cache keys; empty where it is not known."""
    replay: Mapping[str, Any] | None = None
    """Of a replay: what it was made from, and whether only recorded outcomes may be used."""
    accepted: tuple[tuple[str, int], ...] = ()
    """Scope and place from which a divergence was accepted."""
    may_pickle: bool = True
    """Whether values that only pickle carries may be recorded, and read from other executions."""
    strict: bool = False
    """A recorded call that is made with other arguments is a divergence, unless this is a replay."""
