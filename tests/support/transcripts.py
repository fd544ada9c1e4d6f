"""Transcripts of the journal protocol: recorded from a real child, and played to a runner in the child's place.

A transcript is a file of JSON lines. The first says what was executed; then come `attempt` (a claim, and a new
connection), `child`, `runner` and `push` (a frame: its header, and its payload in base64, deflated where that is
shorter; a push has a socket of its own), `outside` (what somebody else did at this moment), `ended` (the connection's
end, and the execution's state then); the last holds the journal and the artifacts as they came out.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import kitaru_runner
from kitaru_registry.database.opening import Database, open_database
from kitaru_registry.executions import creating, queue, waits
from kitaru_registry.executions.attempt_journal import RegistryJournal
from kitaru_registry.executions.journal import JournalWriter
from kitaru_registry.home import Home
from kitaru_registry.journal.entries import Encoded, Outcome
from kitaru_registry.journal.frames import FrameReader, Header, send
from kitaru_registry.journal.messages import PROTOCOL
from kitaru_registry.models import ExecutionId
from kitaru_registry.stores.layout import OciLayout
from kitaru_runner.engine.core.in_flight import InFlightPage
from kitaru_runner.host.locks import FileLock, execution_lock
from kitaru_runner.host.place import Place
from kitaru_runner.host.serving import Serving

PATIENCE_SECONDS = 30.0
OWNER = queue.Owner("runner:1", 1, "here")
ANOTHER = queue.Owner("runner:2", 2, "there")

Line = dict[str, Any]


class Runner:
    """The runner's side of one execution: the real one, without environments and processes."""

    def __init__(self, place: Place, line: Mapping[str, Any]) -> None:
        self.place = place
        self.exec_id = ExecutionId(line["exec_id"])
        self._entrypoint = line["entrypoint"]
        inputs = json.dumps(line["inputs"], separators=(",", ":")).encode()
        new = creating.NewExecution(
            exec_id=self.exec_id, project="default", flow=line["flow"], kind="deployed", inputs=line["inputs"],
            inputs_codec="json", inputs_data=inputs, input_digest="", actor="me@laptop", replay=line.get("replay"),
        )  # fmt: skip
        creating.create(place.database, new)
        self._protocol = line["protocol"]
        self.row = self.seen.row
        self._serving: Serving | None = None
        self._thread: threading.Thread | None = None

    @property
    def folder(self) -> Path:
        return self.place.home.execution(self.exec_id) / "work"

    @property
    def seen(self) -> queue.Candidate:
        return queue.candidate(self.place.database, self.exec_id)

    def connect(self) -> list[int]:
        """Claim the execution, and serve it: the descriptors of the child's ends."""
        queue.make_due(self.place.database, self.exec_id)
        claim = queue.claim(self.place.database, self.seen, OWNER)
        assert claim is not None
        lock = FileLock.acquire(execution_lock(self.place.home, self.exec_id))
        assert lock is not None
        self._serving = Serving(self.place, claim, lock)
        if self._protocol > 1:
            # So that a cache has a key for what it holds.
            self._serving._journal = self._serving._journal_of("code lock")
        ours: list[socket.socket] = []
        theirs: list[int] = []
        self._serving._open_channels(self._protocol, ours, theirs)
        self._serving._pushes = ours[-1]

        def serve(serving: Serving) -> None:
            serving.exchange(ours[0], entrypoint=self._entrypoint)
            for connection in ours:
                connection.close()
            lock.release()

        self._thread = threading.Thread(target=serve, args=(self._serving,))
        self._thread.start()
        return theirs

    def join(self) -> str:
        """The execution's state, once the connection has ended."""
        assert self._thread is not None
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        return self.seen.status

    def do(self, what: str, arguments: Mapping[str, Any]) -> None:
        """What somebody else does."""
        assert self._serving is not None
        if what == "answer":
            waits.answer(self.place.database, self.exec_id, **arguments, actor="me@laptop", door="test")
        elif what == "tick":
            self._serving.hear()
        elif what == "end child":
            self._end_child(**arguments)
        elif what == "cancel":
            self._serving.cancel()
        else:
            assert what == "take over"
            assert queue.claim(self.place.database, self.seen, ANOTHER) is not None

    def _end_child(self, exec_id: str, value: Any) -> None:
        """Be the process of a child execution that comes to this value."""
        claim = queue.claim(self.place.database, queue.candidate(self.place.database, exec_id), ANOTHER)
        assert claim is not None
        journal = RegistryJournal(self.place.database, self.place.writer, claim, stays=False)
        journal.finish(Outcome(Encoded("json", json.dumps(value).encode()), None))

    def outcome(self) -> Line:
        """The journal, the artifacts and the end, as JSON."""
        connection = self.place.database.hold().connection
        try:
            found = {name: connection.execute(query, (self.row,)).fetchall() for name, query in OUTCOME.items()}
        finally:
            connection.close()
        return {name: [[as_json(cell) for cell in row] for row in rows] for name, rows in found.items()}


OUTCOME = {
    "journal": "SELECT seq, kind, key, attempt, name, tries, place, type, codec, data, value_digest, error, metadata, "
    "inputs, started_us, ended_us FROM journal WHERE execution = ? ORDER BY seq",
    "artifacts": "SELECT key, name, type, tags, codec, data, value_digest, at_us FROM artifacts WHERE execution = ? "
    "ORDER BY id",
    "end": "SELECT status, attempt, result_codec, result_data, error FROM executions WHERE id = ?",
}


def as_json(cell: Any) -> Any:
    return {"bytes": cell.hex()} if isinstance(cell, bytes) else cell


@contextmanager
def runner_for(home: Home, line: Mapping[str, Any]) -> Iterator[Runner]:
    database: Database = open_database(home, synchronous="OFF")
    writer = JournalWriter(database)
    yield Runner(Place(home, database, writer, OciLayout(home.layout)), line)
    writer.close()
    database.close()


# Playing


def play(lines: Sequence[Line], home: Home) -> None:
    """Be the child of a transcript; the runner must answer as it did.

    Raises:
        AssertionError: it did not, or the journal came out otherwise.
    """
    first, *rest, last = lines
    with runner_for(home, first) as runner:
        connections: list[socket.socket] = []
        readers: list[FrameReader] = []
        children: dict[str, str] = {}
        for number, line in enumerate(rest, start=2):
            line = renamed(line, children)
            if "attempt" in line:
                connections = sockets_of(runner.connect())
                readers = [FrameReader(connection) for connection in connections]
            elif "child" in line:
                send(connections[0], line["child"], payload_of(line))
            elif "runner" in line:
                found = readers[0].read()
                if found is not None and line["runner"]["t"] == "ok" and "exec_id" in line["runner"]:
                    children[line["runner"]["exec_id"]] = found[0]["exec_id"]
                    line = renamed(line, children)
                check_frame(number, found, line, "runner")
            elif "push" in line:
                check_frame(number, readers[1].read(), line, "push")
            elif "outside" in line:
                runner.do(line["outside"], line["with"])
            else:
                for connection in connections:
                    connection.close()
                assert runner.join() == line["ended"], f"line {number}"
        outcome = runner.outcome()
        last = renamed(last, children)
        for rows in (outcome["journal"], last["journal"]):
            rows[:] = [[*row[:-1], None] if row[1] == "x" else row for row in rows]
        assert outcome["journal"] == last["journal"]
        assert outcome["artifacts"] == last["artifacts"]
        assert outcome["end"] == last["end"]


def renamed(line: Line, children: Mapping[str, str]) -> Line:
    """With the ids that child executions have this time."""
    text = json.dumps(line)
    for recorded, found in children.items():
        text = text.replace(recorded, found).replace(recorded.encode().hex(), found.encode().hex())
    renamed: Line = json.loads(text)
    if children and (payload := payload_of(line)):
        for recorded, found in children.items():
            payload = payload.replace(recorded.encode(), found.encode())
        renamed.pop("deflated", None)
        renamed["payload"] = base64.b64encode(payload).decode()
    return renamed


def sockets_of(descriptors: Sequence[int]) -> list[socket.socket]:
    """Of a child's ends those that are sockets; the third is a page of memory, which nobody here writes to."""
    for page in descriptors[2:]:
        os.close(page)
    connections = [socket.socket(fileno=descriptor) for descriptor in descriptors[:2]]
    for connection in connections:
        connection.settimeout(PATIENCE_SECONDS)
    return connections


def check_frame(number: int, found: tuple[Header, bytes] | None, line: Line, side: str) -> None:
    """A later runner may say more; what was said is said still. Only words for people may change."""
    assert found is not None, f"line {number}: the runner ended the connection"
    header, payload = found
    expected = {name: value for name, value in line[side].items() if name not in ("folder", "message", "hint")}
    found_now = {name: header.get(name) for name in expected}
    assert without_runners_times(found_now) == without_runners_times(expected), f"line {number}"
    assert set(line[side]) <= set(header), f"line {number}"
    assert payload == payload_of(line), f"line {number}"


def without_runners_times(header: Mapping[str, Any]) -> Line:
    """That a child execution was made is said by the runner, at its own time."""
    entries = header.get("entries", ())
    made = [{**entry, "ended": None} if entry["kind"] == "x" else entry for entry in entries]
    return {**header, "entries": made} if entries else dict(header)


def payload_of(line: Line) -> bytes:
    if "deflated" in line:
        return zlib.decompress(base64.b64decode(line["deflated"]))
    return base64.b64decode(line.get("payload", ""))


# Recording


class Recording:
    """One execution by a real child, with both sides of its connection written down."""

    def __init__(self, runner: Runner, flows: Path, first: Line) -> None:
        self.runner = runner
        self.lines: list[Line] = [first]
        self._lock = threading.Lock()
        self._attempts = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._threads: list[threading.Thread] = []
        runner.folder.mkdir(parents=True)
        (runner.folder / "flows.py").write_bytes(flows.read_bytes())
        self._hidden = {
            str(runner.place.home.root): "/home/kitaru",
            str(Path(kitaru_runner.__file__).parent.parent): "/lib",
            sysconfig.get_path("purelib"): "/site",
            sysconfig.get_path("stdlib"): "/python",
        }

    def start(self) -> None:
        """Start an attempt's child."""
        self._attempts += 1
        self._note({"attempt": self._attempts})
        requests, pushes, page = self.runner.connect()
        to_runner, from_runner = socket.socket(fileno=requests), socket.socket(fileno=pushes)
        self._page = InFlightPage(page)
        (to_child, childs), (to_child_unasked, childs_unasked) = socket.socketpair(), socket.socketpair()
        theirs = (childs.fileno(), childs_unasked.fileno(), page)
        command = [sys.executable, "-s", "-P", "-m", "kitaru_runner.child", str(theirs[0]), str(os.getpid())]
        self._child = subprocess.Popen([*command, str(theirs[1]), str(page)], cwd=self.runner.folder, pass_fds=theirs)
        for end in (childs, childs_unasked):
            end.close()
        os.close(page)
        self._threads = [
            threading.Thread(target=self._pass_on, args=("child", to_child, to_runner)),
            threading.Thread(target=self._pass_on, args=("runner", to_runner, to_child)),
            threading.Thread(target=self._pass_on, args=("push", from_runner, to_child_unasked)),
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Let the child come to its end."""
        assert self._child is not None
        self._child.wait(PATIENCE_SECONDS)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        self._note({"ended": self.runner.join()})

    def attempt(self) -> None:
        self.start()
        self.join()

    def outside(self, what: str, **arguments: Any) -> None:
        with self._lock:
            self.lines.append({"outside": what, "with": arguments})
        self.runner.do(what, arguments)

    def open_gate(self, name: str) -> None:
        (self.runner.folder / name).touch()

    def until(self, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not there():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def until_recorded(self, key: str) -> None:
        self.until(lambda: any(row[2] == key for row in self.runner.outcome()["journal"]))

    def child(self) -> str:
        """The child execution that was made."""
        rows = self.runner.place.database.hold().connection.execute(
            "SELECT exec_id FROM executions WHERE parent = ?", (self.runner.row,)
        )
        return str(rows.fetchone()[0])

    def until_begun(self, key: str) -> None:
        """Until a try of that call is under way."""
        self.until(lambda: any(call["key"] == key for call in self._page.read()))

    def until_asked(self, key: str) -> None:
        """Until a wait is open, and the child knows."""
        database = self.runner.place.database
        self.until(lambda: any(w.key == key for w in waits.list_waits(database, exec_id=self.runner.exec_id)))
        self.until(lambda: "runner" in self.lines[-1])

    def _pass_on(self, side: str, source: socket.socket, target: socket.socket) -> None:
        reader = FrameReader(source)
        while (frame := reader.read()) is not None:
            header, payload = frame
            line: Line = {side: header}
            packed = zlib.compress(payload, 9)
            if len(packed) < len(payload):
                line["deflated"] = base64.b64encode(packed).decode()
            elif payload:
                line["payload"] = base64.b64encode(payload).decode()
            self._note(line)
            try:
                send(target, header, payload)
            except OSError:
                break
        try:
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        source.close()

    def _note(self, line: Line) -> None:
        text = json.dumps(line, ensure_ascii=False)
        for path, shown in self._hidden.items():
            text = text.replace(path, shown)
        with self._lock:
            self.lines.append(json.loads(text))


def record(
    flows: Path,
    flow: str,
    inputs: Mapping[str, Any],
    drive: Callable[[Recording], None],
    *,
    release: str,
    home: Home,
    replay: Mapping[str, Any] | None = None,
) -> list[Line]:
    """The transcript of one execution of a flow."""
    first = {
        "protocol": PROTOCOL, "kitaru": release, "exec_id": str(uuid4()), "flow": flow,
        "entrypoint": f"flows.py:{flow}", "inputs": dict(inputs),
    }  # fmt: skip
    if replay is not None:
        first["replay"] = dict(replay)
    with runner_for(home, first) as runner:
        recording = Recording(runner, flows, first)
        drive(recording)
        recording._note(runner.outcome())
    return recording.lines


def write(path: Path, lines: Sequence[Line]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines))


def read(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text().splitlines()]
