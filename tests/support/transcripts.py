"""Transcripts of the journal protocol: recorded from a real child, and played to a runner in the child's place.

A transcript is a file of JSON lines. The first says what was executed; then come `attempt` (a claim, and a new
connection), `child` and `runner` (a frame: its header, and its payload in base64, deflated where that is shorter),
`outside` (what somebody else did at this moment), `ended` (the connection's end, and the execution's state then);
the last holds the journal and the artifacts as they came out.
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
from kitaru_registry.database import Database, open_database
from kitaru_registry.executions import creating, queue, waits
from kitaru_registry.executions.journal import JournalWriter
from kitaru_registry.home import Home
from kitaru_registry.models import ExecutionId
from kitaru_registry.stores.layout import OciLayout
from kitaru_runner.locks import FileLock, execution_lock
from kitaru_runner.protocol import FrameReader, Header, send
from kitaru_runner.serving import Place, Serving

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
            inputs_codec="json", inputs_data=inputs, input_digest="", actor="me@laptop",
        )  # fmt: skip
        creating.create(place.database, new)
        self.row = self.seen.row
        self._serving: Serving | None = None
        self._thread: threading.Thread | None = None

    @property
    def folder(self) -> Path:
        return self.place.home.execution(self.exec_id) / "work"

    @property
    def seen(self) -> queue.Candidate:
        return queue.candidate(self.place.database, self.exec_id)

    def connect(self) -> socket.socket:
        """Claim the execution, and serve it: the child's end of the socket."""
        queue.make_due(self.place.database, self.exec_id)
        claim = queue.claim(self.place.database, self.seen, OWNER)
        assert claim is not None
        lock = FileLock.acquire(execution_lock(self.place.home, self.exec_id))
        assert lock is not None
        ours, theirs = socket.socketpair()
        self._serving = Serving(self.place, claim, lock)

        def serve(serving: Serving) -> None:
            with ours:
                serving.exchange(ours, entrypoint=self._entrypoint)
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
            self._serving.tick()
        else:
            assert what == "take over"
            assert queue.claim(self.place.database, self.seen, ANOTHER) is not None

    def outcome(self) -> Line:
        """The journal, the artifacts and the end, as JSON."""
        connection = self.place.database.hold()
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
        connection: socket.socket | None = None
        reader: FrameReader | None = None
        for number, line in enumerate(rest, start=2):
            if "attempt" in line:
                connection = runner.connect()
                connection.settimeout(PATIENCE_SECONDS)
                reader = FrameReader(connection)
            elif "child" in line:
                assert connection is not None
                send(connection, line["child"], payload_of(line))
            elif "runner" in line:
                assert reader is not None
                check_frame(number, reader.read(), line)
            elif "outside" in line:
                runner.do(line["outside"], line["with"])
            else:
                assert connection is not None
                connection.close()
                assert runner.join() == line["ended"], f"line {number}"
        outcome = runner.outcome()
        assert outcome["journal"] == last["journal"]
        assert outcome["artifacts"] == last["artifacts"]
        assert outcome["end"] == last["end"]


def check_frame(number: int, found: tuple[Header, bytes] | None, line: Line) -> None:
    """A later runner may say more; what was said is said still. Only words for people may change."""
    assert found is not None, f"line {number}: the runner ended the connection"
    header, payload = found
    expected = {name: value for name, value in line["runner"].items() if name not in ("folder", "message", "hint")}
    assert {name: header.get(name) for name in expected} == expected, f"line {number}"
    assert set(line["runner"]) <= set(header), f"line {number}"
    assert payload == payload_of(line), f"line {number}"


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
        to_runner = self.runner.connect()
        to_child, childs = socket.socketpair()
        self._child = subprocess.Popen(
            [sys.executable, "-s", "-P", "-m", "kitaru_runner.child", str(childs.fileno()), str(os.getpid())],
            cwd=self.runner.folder,
            pass_fds=(childs.fileno(),),
        )
        childs.close()
        self._threads = [
            threading.Thread(target=self._pass_on, args=("child", to_child, to_runner)),
            threading.Thread(target=self._pass_on, args=("runner", to_runner, to_child)),
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
    flows: Path, flow: str, inputs: Mapping[str, Any], drive: Callable[[Recording], None], *, release: str, home: Home
) -> list[Line]:
    """The transcript of one execution of a flow."""
    first = {
        "protocol": 1, "kitaru": release, "exec_id": str(uuid4()), "flow": flow, "entrypoint": f"flows.py:{flow}",
        "inputs": dict(inputs),
    }  # fmt: skip
    with runner_for(home, first) as runner:
        recording = Recording(runner, flows, first)
        drive(recording)
        recording._note(runner.outcome())
    return recording.lines


def write(path: Path, lines: Sequence[Line]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines))


def read(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text().splitlines()]
