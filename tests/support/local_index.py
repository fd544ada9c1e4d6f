"""A package index of our own, in a folder: tests resolve, download and build real wheels without a network."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# A PEP 517 backend in the package itself: its builds need nothing from an index.
BACKEND = """
import zipfile

NAME, VERSION = {name!r}, {version!r}

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    filename = f"{{NAME}}-{{VERSION}}-py3-none-any.whl"
    info = f"{{NAME}}-{{VERSION}}.dist-info"
    with zipfile.ZipFile(f"{{wheel_directory}}/{{filename}}", "w") as wheel:
        wheel.write(f"{{NAME}}.py")
        wheel.writestr(f"{{info}}/METADATA", f"Metadata-Version: 2.1\\nName: {{NAME}}\\nVersion: {{VERSION}}\\n")
        wheel.writestr(f"{{info}}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{{info}}/RECORD", "")
    return filename

def build_sdist(sdist_directory, config_settings=None):
    raise NotImplementedError
"""


def wheel_bytes(
    name: str, version: str, *, requires: Sequence[str] = (), tag: str = "py3-none-any", files: Mapping[str, str] = {}
) -> bytes:
    """A wheel with one module of its name, or with `files`."""
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, text in (files or {f"{name}.py": f"version = {version!r}\n"}).items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/METADATA", "\n".join([*metadata, ""]))
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{info}/RECORD", "")
    return buffer.getvalue()


def write_source(folder: Path, name: str, version: str, *, body: str = "") -> None:
    """A local package that builds itself."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "{version}"\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (folder / "backend.py").write_text(BACKEND.format(name=name, version=version))
    (folder / f"{name}.py").write_text(body or f"version = {version!r}\n")


@dataclass(frozen=True)
class Index:
    """A PEP 503 index with hashes, readable as a folder and over HTTP."""

    folder: Path

    @property
    def url(self) -> str:
        return (self.folder / "simple").as_uri()

    def add(self, name: str, version: str, *, requires: Sequence[str] = (), tag: str = "py3-none-any") -> Path:
        """Publish a wheel."""
        return self.publish(name, f"{name}-{version}-{tag}.whl", wheel_bytes(name, version, requires=requires, tag=tag))

    def add_source(self, name: str, version: str, *, body: str = "") -> Path:
        """Publish a source archive, and no wheel."""
        work = self.folder / "work" / f"{name}-{version}"
        write_source(work, name, version, body=body)
        (work / "PKG-INFO").write_text(f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n")
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            archive.add(work, work.name)
        return self.publish(name, f"{name}-{version}.tar.gz", buffer.getvalue())

    def publish(self, name: str, filename: str, content: bytes) -> Path:
        files = self.folder / "files"
        files.mkdir(parents=True, exist_ok=True)
        (files / filename).write_bytes(content)
        page = self.folder / "simple" / name.replace("_", "-") / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        link = f'<a href="../../files/{filename}#sha256={hashlib.sha256(content).hexdigest()}">{filename}</a>\n'
        known = page.read_text() if page.exists() else "<!DOCTYPE html>\n"
        page.write_text(known + link)
        return files / filename

    @contextmanager
    def served(self, *, login: str | None = None) -> Iterator[Server]:
        """The same index over HTTP on loopback, on a free port; for `user:password` alone where a login is given."""
        server = Server(self.folder, login)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, folder: Path, login: str | None) -> None:
        self.requested: list[str] = []
        self.authorization = f"Basic {base64.b64encode(login.encode()).decode()}" if login else None
        super().__init__(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"

    @property
    def files_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requested.append(self.path)
        if self.server.authorization in (None, self.headers.get("Authorization")):
            super().do_GET()
        else:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def runtime_index(folder: Path) -> Index:
    """An index that holds small stand-ins for what Kitaru's runtime needs."""
    index = Index(folder)
    index.add("cloudpickle", "3.1.0")
    index.add("pydantic", "2.9.0")
    index.add("pydantic", "1.10.0")
    return index
