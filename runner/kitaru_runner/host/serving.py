"""One attempt at a deployed execution, seen from the runner: environment, child, journal, end.

The runner's thread that starts a child stays until the child has ended: the kernel's "parent died" signal to the child
is bound to that very thread.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from traceback import format_exception
from typing import Any

from kitaru_registry.errors import KitaruBackendError, KitaruError, KitaruFencedError, KitaruUsageError
from kitaru_registry.executions import ending, queue
from kitaru_registry.executions.attempt_journal import RegistryJournal
from kitaru_registry.journal.cutting import cut_failure, cut_text
from kitaru_registry.journal.entries import Answer, Encoded, Entry, Kind, Opening, Outcome
from kitaru_registry.journal.frames import Frame, FrameReader, Header, framed, send_framed
from kitaru_registry.journal.log_lines import log_file, open_to_append, remark
from kitaru_registry.journal.messages import SERVED_PROTOCOLS
from kitaru_registry.journal.packing import in_pieces, unpack_entries
from kitaru_registry.journal.requests import as_child, as_wait, refusal, welcome
from kitaru_registry.models import Digest, SnapshotConfig
from kitaru_registry.snapshots.artifact import fetch_code, fetch_lock, read_config
from kitaru_registry.snapshots.laying import lay_code, take_code_away
from kitaru_runner.engine.core.in_flight import InFlightPage, open_page
from kitaru_runner.host.child_process import ChildProcess, end_of_stream, how_it_ended
from kitaru_runner.host.draining import Draining
from kitaru_runner.host.environment import environment_for, shared_lock
from kitaru_runner.host.import_check import clean_environment
from kitaru_runner.host.locks import FileLock
from kitaru_runner.host.place import Place
from kitaru_runner.host.presence import wake
from kitaru_runner.host.settling import until_written

KILL_SECONDS = 5.0
EXIT_SECONDS = 10.0
"""What a process has for its exit handlers and threads, once its execution has ended."""

READ_AHEAD_ENTRIES = 5_000
ON_THE_RECORD = frozenset({"wait", "park", "value", "load", "cached", "child", "attend", "outcome", "stop", "finish"})
"""Frames that need the record, `record` aside: where it cannot be read or written, the machine is at fault."""

CANCEL_SECONDS = 1.0
"""What an asynchronous flow has to clean up when it is cancelled."""


class Serving:
    """Serves one claimed execution; `run` in a thread of its own."""

    def __init__(self, place: Place, claim: queue.Claim, lock: FileLock) -> None:
        self._place = place
        self._claim = claim
        self._lock = lock
        self._journal = self._journal_of("")
        self._folder = place.home.execution(claim.exec_id)
        self._child: ChildProcess | None = None
        self._connection: socket.socket | None = None
        self._pushes: socket.socket | None = None
        self._page: InFlightPage | None = None
        self._send_lock = threading.Lock()
        self._finished = False
        self._ended_by_us: str | None = None
        self._protocol = 0
        self.kill_at = float("inf")
        # What the machine has done to this attempt.
        self._fault: KitaruError | None = None
        self._is_prepared = self._settled = False
        self._gives_up = threading.Event()
        self._draining: Draining | None = None

    def _journal_of(self, code: str) -> RegistryJournal:
        journal = self._place.journal_of(self._claim, code)
        journal.listener = self
        return journal

    @property
    def exec_id(self) -> str:
        return self._claim.exec_id

    def run(self) -> None:
        """Serve until the child has ended, and settle what became of the execution."""
        try:
            self._serve()
        except KitaruFencedError:
            pass
        except KitaruError as error:
            self._cannot_run(error)
        except OSError as error:
            self._cannot_run(
                KitaruBackendError(f"{error.filename or self._folder} cannot be used: {error.strerror or error}")
            )
        except Exception as error:  # of ours, or bytes that no child of ours sends: it is this execution's alone
            self._broke(error)
        finally:
            self._end_child()
            self._lock.release()
            self._wake_parent()

    def _wake_parent(self) -> None:
        """Of a child execution that has ended: its parent may go on now."""
        if self._claim.is_child:
            wake(self._place.home)

    def _serve(self) -> None:
        config = read_config(self._place.store, Digest(self._claim.digest or ""))
        self._journal = self._journal_of(f"{config.code} {config.lock}")
        self._journal.may_pickle = config.options.pickle != "forbid"
        self._journal.strict = config.options.divergence == "strict"
        with ExitStack() as stack:
            python, used = self._environment(config, stack)
            tar = fetch_code(self._place.store, config)
            self._is_prepared = True
            self._unpack(tar)
            del tar
            code = 0
            if self._ended_by_us is None:
                child = self._spawn(python, used, config)
                self._place.faults.over(self._claim.digest or "")
                assert self._connection is not None
                self.exchange(self._connection, entrypoint=config.entrypoint)
                self._see_out(child)
                code = child.bury()
        if self._fault is not None:
            raise self._fault
        self._place.faults.over(self.exec_id)
        if self._finished or self._journal.parked:
            self._clean(config)
            return
        reason = self._ended_by_us or how_it_ended(code, self._journal.running_keys())
        self._log(reason, level="INFO" if self._ended_by_us else "ERROR")
        self._settle(reason)

    def _see_out(self, child: ChildProcess) -> None:
        """Let it end as a Python process does once its outcome is recorded; not for ever."""
        limit = EXIT_SECONDS if self._finished else KILL_SECONDS
        if child.has_ended(within=limit):
            return
        if self._finished and self._ended_by_us is None:
            self._log(
                f"its process was killed {limit:g} s after its end: exit handlers or threads still ran", level="WARNING"
            )
        child.kill()

    def _environment(self, config: SnapshotConfig, stack: ExitStack) -> tuple[Path, int]:
        environment = environment_for(
            self._place.home,
            lock=fetch_lock(self._place.store, config),
            wheels=config.wheels,
            store=self._place.store,
            minor=config.python,
        )
        return environment.python, stack.enter_context(shared_lock(environment))

    def _unpack(self, tar: bytes) -> None:
        """The verified code, anew for each attempt, over what the flow has written there."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lay_code(tar, self._folder / "work")

    def _clean(self, config: SnapshotConfig) -> None:
        """Take the code away again; what the flow wrote stays."""
        if self._journal.parked:
            return
        with suppress(KitaruError, OSError):  # the execution has ended, whatever becomes of the folder
            take_code_away(fetch_code(self._place.store, config), self._folder / "work")

    def _spawn(self, python: Path, used: int, config: SnapshotConfig) -> ChildProcess:
        if self._claim.attempt > 1:
            self._log(f"attempt {self._claim.attempt} begins")
        passed = self._place.variables_of(self._claim, config.options.env)
        ours: list[socket.socket] = []
        theirs: list[int] = []
        log = -1
        try:
            log = open_to_append(log_file(self._place.home, self.exec_id))
            self._open_channels(config.protocol, ours, theirs)
            command = [str(python), "-s", "-P", "-m", "kitaru_runner.child", str(theirs[0]), str(os.getpid())]
            child = ChildProcess(
                [*command, *map(str, theirs[1:])], environment=clean_environment(passed), folder=self._folder / "work",
                log=log, given=(*theirs, self._lock.descriptor, used),
            )  # fmt: skip
        except BaseException:
            for connection in ours:
                connection.close()
            raise
        finally:
            for descriptor in (*theirs, log):
                if descriptor >= 0:
                    os.close(descriptor)
        self._child, self._connection, self._pushes = child, ours[0], ours[-1]
        child.watch(partial(end_of_stream, ours[0]))
        if self._ended_by_us is not None:
            child.kill()  # meanwhile
        self._lock.write(f"{child.pid} (runner {os.getpid()})")
        return child

    def _open_channels(self, protocol: int, ours: list[socket.socket], theirs: list[int]) -> None:
        """Our ends, and the descriptors of the child's: requests, and since protocol 2 pushes and what is in flight."""
        for _ in range(1 if protocol == 1 else 2):
            own, other = socket.socketpair()
            ours.append(own)
            theirs.append(other.detach())
        if protocol > 1:
            theirs.append(open_page())
            self._page = InFlightPage(theirs[-1])
            self._journal.watch(self._page.read)

    # The journal protocol

    def exchange(self, connection: socket.socket, *, entrypoint: str) -> None:
        """Answer a child's frames until its part is done, or it has ended."""
        self._connection = connection
        reader = FrameReader(connection)
        opening, entries = self._journal.open_to_send(entrypoint=entrypoint)
        # Read while the child loads its libraries; the rest of a very long journal as it is sent.
        first = tuple(islice(entries, READ_AHEAD_ENTRIES))
        hello = reader.read()
        if hello is None:
            return
        if hello[0].get("protocol") not in SERVED_PROTOCOLS:
            raise KitaruBackendError(f"the snapshot's child speaks journal protocol {hello[0].get('protocol')}")
        self._protocol = int(hello[0]["protocol"])
        self._welcome(opening, chain(first, entries))
        records: list[tuple[int, list[Entry]]] = []
        while (frame := self._next(reader)) is not None:
            header, payload = frame
            if header["t"] == "started":
                self._journal.started(header["key"], header["name"], header["tries"], header["at"])
            elif header["t"] == "record":
                records.append((header["id"], list(unpack_entries(header["entries"], payload))))
            elif not (self._record(records) and self._reply(header, payload)):
                return
            if self._finished:
                # What its threads still ask for hears of the end.
                end_of_stream(connection, socket.SHUT_RDWR)
                return
            # What came while the last commit was made shares the next one.
            if not reader.has_frame() and not self._record(records):
                return

    def _next(self, reader: FrameReader) -> tuple[Header, bytes] | None:
        """The child's next frame; one that cannot be read fails the execution: it would come in each attempt."""
        try:
            return reader.read()
        except KitaruBackendError as error:
            described = {"type": type(error).__name__, "message": error.message, "origin": "runtime"}
            self._journal.finish(Outcome(None, described))
            self._finished = True
            self._kill()
            return None

    def _record(self, records: list[tuple[int, list[Entry]]]) -> bool:
        """Make what was asked durable in one commit, answer each, and forget them. False: nobody listens any more."""
        if not records:
            return True
        asked = records.copy()
        records.clear()
        entries = [entry for _, own in asked for entry in own]
        try:
            seq = self._journal.record(entries) - len(entries) if entries else 0
        except KitaruBackendError as error:
            return self._cannot_write(error)
        except KitaruUsageError as error:
            if len(asked) == 1:
                return self._send({**refusal(error), "id": asked[0][0]}, b"")
            # One of those that came together cannot be written, and costs the others nothing.
            return all(self._record([each]) for each in asked)
        except KitaruError as error:
            return self._send_all([({**refusal(error), "id": id_}, b"") for id_, _ in asked])
        answers: list[tuple[Header, bytes]] = []
        for id_, own in asked:
            seq += len(own)
            if self._draining is None or not self._draining.holds(own, self._journal.running()):
                answers.append(({"t": "ok", "seq": seq, "id": id_}, b""))
        if self._draining is not None:
            self._place.ring()
        # At once, so that the child hears of all when it looks.
        return self._send_all(answers)

    def _reply(self, header: Header, payload: bytes) -> bool:
        try:
            reply, content = self._answer(header, payload)
            frame = framed({**reply, "id": header["id"]}, content)
        except KitaruError as error:
            if header["t"] in ON_THE_RECORD and isinstance(error, KitaruBackendError):
                return self._cannot_write(error)
            frame = framed({**refusal(error), "id": header["id"]})
        return self._send_framed([frame])

    def _cannot_write(self, error: KitaruBackendError) -> bool:
        """End the attempt; user code, which might swallow the error and go on unrecorded, hears nothing of it."""
        self._fault = error
        self.end(error.message)
        return False

    def _welcome(self, opening: Opening, entries: Iterable[Entry]) -> None:
        header = welcome(opening, self._folder / "work", typed=self._claim.entrypoint is not None)
        self._send(header, opening.inputs.data)
        for piece in in_pieces(entries):
            self._send({"t": "entries", "entries": piece.entries, "last": piece.is_last}, piece.payload)

    def _answer(self, header: Header, payload: bytes) -> tuple[Header, bytes]:
        journal = self._journal
        match header["t"]:
            case "wait":
                wait = as_wait(header["wait"])
                answer = journal.open_wait(wait)
                if answer is None:
                    if wait.deadline_us is not None:
                        self._place.ring()
                    return {"t": "ok", "answered": False}, b""
                return {"t": "ok", "answered": True, "outcome": answer.outcome}, answer.data
            case "park":
                return {"t": "ok", "parked": journal.park()}, b""
            case "value":
                value = journal.value(Entry(Kind.CALL, "", 0, seq=header["seq"]))
                return {"t": "ok", "codec": value.codec}, value.data
            case "load":
                loaded = journal.load(header["exec_id"], header["name"], header.get("index"))
                said = {"codec": loaded.value.codec, "of": loaded.artifact_id, "ours": loaded.is_ours}
                return {"t": "ok", **said}, loaded.value.data
            case "cached":
                found = journal.cached(bytes.fromhex(header["key"]))
                if found is None:
                    return {"t": "ok"}, b""
                return {"t": "ok", "codec": found[0].codec, "of": found[1]}, found[0].data
            case "child":
                exec_id, seq = journal.child(as_child(header["child"], payload))
                return {"t": "ok", "exec_id": exec_id, "seq": seq}, b""
            case "attend":
                journal.attend(header["exec_id"])
                return {"t": "ok"}, b""
            case "outcome":
                outcome = journal.outcome(header["exec_id"])
                codec, data = (outcome.value.codec, outcome.value.data) if outcome.value else (None, b"")
                error = cut_failure(outcome.error) if outcome.error is not None else None
                return {"t": "ok", "status": outcome.status, "error": error, "codec": codec}, data
            case "stop":
                journal.stop(header["key"])
                self._finished = True
                return {"t": "ok"}, b""
            case "finish":
                result = Encoded(header["codec"], payload) if header.get("codec") else None
                journal.finish(Outcome(result, header["error"]))
                self._finished = True
                self._wake_parent()
                return {"t": "ok"}, b""
            case unknown:
                raise KitaruBackendError(f"the child sent {unknown}, which the journal protocol does not have")

    def answered(self, key: str, answer: Answer) -> None:
        """Pass an answer on (journal.interface.Answers)."""
        self._send({"t": "answer", "key": key, "outcome": answer.outcome}, answer.data, on=self._pushes)

    def _send(self, header: Mapping[str, Any], payload: bytes, *, on: socket.socket | None = None) -> bool:
        return self._send_framed([framed(header, payload)], on=on)

    def _send_all(self, frames: Sequence[tuple[Mapping[str, Any], bytes]]) -> bool:
        return self._send_framed([framed(header, payload) for header, payload in frames])

    def _send_framed(self, frames: Sequence[Frame], *, on: socket.socket | None = None) -> bool:
        connection = on or self._connection
        assert connection is not None
        try:
            with self._send_lock:
                send_framed(connection, frames)
        except OSError:
            return False
        return True

    # From the runner's main thread

    def drain(self) -> None:
        """Let what is in flight end, and then the attempt, which is due again at once."""
        self._draining = self._draining or Draining()
        if self._ended_by_us is None and self._draining.is_at_rest(self._journal.running()):
            self.end("its runner was drained")

    def tick(self) -> None:
        """Kill a child that was asked to end, and did not."""
        if time.monotonic() >= self.kill_at:
            self.kill_at = float("inf")
            self._kill()

    def hear(self) -> None:
        """Pass on the answers that have come."""
        if self._connection is not None and not self._settled:
            self._journal.poll_answers()

    def beat(self) -> None:
        """Renew the lease; end the child where it was fenced out or is to be cancelled."""
        if self._finished or self._settled or self._journal.parked:
            return
        try:
            beat = self._journal.beat()
        except KitaruBackendError:
            return  # the disk may be better in a second; until then nobody else can claim it either
        if beat.cancel_requested:
            self.cancel()
        elif beat.is_late:
            self.end("finish_timeout")
        elif not beat.owned and not self._finished and not self._journal.parked:
            self.end("fenced out by another attempt")

    @property
    def next_deadline_us(self) -> int | None:
        return self._journal.next_deadline_us

    def cancel(self) -> None:
        """Let an asynchronous flow clean up for a moment, and kill any other; `run` then settles the execution."""
        if self._ended_by_us is not None:
            return
        self._ended_by_us = "cancelled"
        self.kill_at = time.monotonic() + CANCEL_SECONDS
        if self._protocol < 2 or not self._send({"t": "cancel"}, b"", on=self._pushes):
            self._kill()

    def end(self, reason: str) -> None:
        """Kill the child and what it started; `run` then settles the execution."""
        self._ended_by_us = reason
        self._kill()

    def give_up(self, reason: str) -> None:
        """As `end`; what cannot be written now is left to whoever claims the execution next."""
        self._gives_up.set()
        self.end(reason)

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _end_child(self) -> None:
        """Nothing of the child outlives its attempt, its own processes included."""
        if self._child is not None:
            self._child.kill()
            self._child.bury()
        for channel in (self._connection, self._pushes, self._page):
            if channel is not None:
                channel.close()

    def _settle(self, reason: str) -> None:
        stopped = self._ended_by_us is not None
        running = self._journal.running_keys()
        self._until_written(
            lambda: ending.end_attempt(
                self._place.database, self._claim.row, self._claim.attempt, reason=reason, running=running,
                counts=not stopped,
            )
        )  # fmt: skip

    def leave(self, error: KitaruError) -> None:
        """Instead of `run`, where no thread can be had for it."""
        self._gives_up.set()
        self._cannot_run(error)
        self._lock.release()

    def _broke(self, error: Exception) -> None:
        self._kill()
        reason = cut_text(f"{type(error).__name__} in the runner: {error}", 200)
        self._log(f"{reason}\n{''.join(format_exception(error))}", level="ERROR")
        self._settle(reason)

    def _cannot_run(self, error: KitaruError) -> None:
        """The machine's fault: it waits for the cause to go, longer each time, and no attempt is counted."""
        self._log(error.message, level="ERROR")
        digest = None if self._is_prepared else Digest(self._claim.digest or "")
        pause_seconds = self._place.faults.pause_seconds(digest or self.exec_id)
        reason = f"{error.message}; {error.hint}" if error.hint else error.message
        self._until_written(
            lambda: ending.postpone(
                self._place.database, self._claim.row, self._claim.attempt, reason=reason,
                pause_seconds=pause_seconds, began=self._child is not None, alike=digest,
            )
        )  # fmt: skip

    def _until_written(self, write: Callable[[], object]) -> None:
        self._settled = True
        until_written(write, tell=self._place.tell, gives_up=self._gives_up)

    def _log(self, line: str, *, level: str = "INFO") -> None:
        with suppress(OSError):
            remark(log_file(self._place.home, self.exec_id), line, attempt=self._claim.attempt, level=level)
