"""The journal protocol: what a child and its runner say to each other.

A child holds no credentials and opens no database. It speaks this over an inherited socket pair; the runner alone
writes and fences. The same messages, as plain calls, are the `Journal` that an in-process run talks to.

Each message is a frame (frames.py). A request carries `id`, and its reply the same `id`. Values travel in payloads; a
header that describes several gives each one's `size`, in order.

    child                             runner
    hello {protocol, pid}          -> welcome {exec_id, attempt, flow, ...} payload: inputs
                                      entries {entries: [...], last} payload: their values (repeated until last)
    record {id, entries} payload   -> ok {id, seq}          the entries are durable
    started {key, name, tries, at}                          no reply; rides on the next heartbeat
    wait {id, wait}                -> ok {id, answered, outcome?} payload: the answer's JSON
    park {id}                      -> ok {id, parked}       parked: the child ends now; else an answer has come, or
                                                            is about to
    value {id, seq}                -> ok {id} payload       a recorded value too large to be sent with its entry
    load {id, exec_id, name, index?} -> ok {id, codec, of, ours} payload   an artifact, its id, and whose it is
    cached {id, key}               -> ok {id, codec?, of?} payload   an outcome under that cache key, in any execution
    child {id, child} payload      -> ok {id, exec_id, seq} a child execution exists, and is recorded
    attend {id, exec_id}           -> ok {id}               one that was made before is seen to
    outcome {id, exec_id}          -> ok {id, status, error, codec?} payload   how an execution stands
    stop {id, key}                 -> ok {id}               end here: the next call is not recorded; the child ends now
    finish {id, ...} payload       -> ok {id}               the child ends now
                                      answer {key, outcome?} payload   at any time
                                      cancel {}               at any time: the child ends, in a second at the latest
                                      error {id, type, message, hint}  instead of ok; `fenced` ends the child

Protocol 2 added `cached`, `child`, `attend`, `outcome`, `stop`, `cancel`, fields, and the `outcome` of an answer
(`answered`, `expired`, `aborted`): a child that speaks 1 never sees them. To cancel, such a one is killed.

Standard library only: every child imports this. A number that was released is served for ever.
"""

from __future__ import annotations

PROTOCOL = 2

SERVED_PROTOCOLS = frozenset({1, 2})

CODEC = 2
"""Number of the set of value codecs (codec.py) that a child writes; it reads every set before it too."""
