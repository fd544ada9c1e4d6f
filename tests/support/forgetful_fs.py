"""A file system in memory that keeps, through a power cut, what was fsynced and nothing else.

The strict reading of POSIX, stricter than any file system in use. The content of a file lasts as of the last fsync of
that file. A name (created, renamed, removed) lasts once the folder that holds it was fsynced: not with the file's own
fsync, as ext4 and XFS would have it, and a new folder's name with the folder above it. What was written meanwhile is
gone as a whole; a rename between two folders can be kept in one of them alone.

`python forgetful_fs.py MOUNTPOINT IMAGE` mounts what IMAGE holds, and obeys lines on its stdin, each answered by one on
its stdout: `arm N` (cut the power before the N-th change from now on), `state` (`on COUNT`, or `cut BEFORE-WHAT`),
`settle` (all that is written is on disk now), `cut`. After the cut every call fails with EIO, and IMAGE holds what
lasted. With `--ignores GLOB`, fsyncs of the files that match do nothing, as if the product had forgotten them.

Memory that is mapped and shared (SQLite's -shm) goes through the kernel's page cache, which all processes of one mount
share: that needs `direct_io` off, which is the default, and `kernel_cache`. Locks stay in the kernel too. The -shm file
is never fsynced, and comes back empty, as SQLite expects.
"""

from __future__ import annotations

import argparse
import errno
import os
import pickle
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

import mfusepy

numbers = count(1)


@dataclass
class Node:
    """A file, folder, link or pipe: as it is, and as it would be after a power cut."""

    mode: int
    data: bytearray = field(default_factory=bytearray)
    names: dict[str, Node] = field(default_factory=dict)
    synced_data: bytes = b""
    synced_names: dict[str, Node] = field(default_factory=dict)
    time_ns: int = field(default_factory=time.time_ns)
    number: int = field(default_factory=lambda: next(numbers))

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    def sync(self) -> None:
        if self.is_folder:
            self.synced_names = dict(self.names)
        else:
            self.synced_data = bytes(self.data)

    def settle(self) -> None:
        self.sync()
        for node in self.names.values():
            node.settle()

    def lasting(self) -> Node:
        """What a power cut leaves of it."""
        kept = Node(self.mode, bytearray(self.synced_data), synced_data=self.synced_data, time_ns=self.time_ns)
        kept.names = {name: node.lasting() for name, node in self.synced_names.items()}
        kept.synced_names = dict(kept.names)
        return kept


@dataclass
class Handle:
    node: Node
    path: str


class ForgetfulFs(mfusepy.Operations):
    use_ns = True
    # An open file is known by its handle. (One that is removed while open is hidden by libfuse until it is closed.)
    flag_nopath = True
    flag_nullpath_ok = True

    def __init__(self, image: Path, ignores: str) -> None:
        self._image = image
        self._ignores = ignores
        self._root = pickle.loads(image.read_bytes()) if image.exists() else Node(stat.S_IFDIR | 0o755)
        self._handles: dict[int, Handle] = {}
        self._lock = threading.RLock()
        self._count = 0
        self._cut_at: int | None = None
        self._cut_before: str | None = None

    # From outside

    def obey(self, line: str) -> str:
        with self._lock:
            match line.split():
                case ["arm", number]:
                    self._cut_at = self._count + int(number)
                case ["settle"]:
                    self._root.settle()
                case ["cut"]:
                    self._cut("the word of the test")
            return f"cut {self._cut_before}" if self._cut_before else f"on {self._count}"

    def _cut(self, before: str) -> None:
        if self._cut_before is None:
            self._cut_before = before
            self._image.write_bytes(pickle.dumps(self._root.lasting()))

    def _change(self, what: str, path: str) -> None:
        """Count a change; the power may go before it."""
        self._alive()
        if path.endswith("-shm"):
            return  # the kernel writes it back when it likes
        self._count += 1
        if self._count == self._cut_at:
            self._cut(f"{what} {path}")
            self._alive()

    def _alive(self) -> None:
        if self._cut_before is not None:
            raise OSError(errno.EIO, "the power is off")

    # Names

    def _find(self, path: str) -> Node:
        self._alive()
        node = self._root
        for name in PurePosixPath(path).parts[1:]:
            if name not in node.names:
                raise OSError(errno.ENOENT, path)
            node = node.names[name]
        return node

    def _folder_of(self, path: str) -> tuple[Node, str]:
        return self._find(str(PurePosixPath(path).parent)), PurePosixPath(path).name

    def _make(self, what: str, path: str, mode: int) -> Node:
        with self._lock:
            self._change(what, path)
            folder, name = self._folder_of(path)
            folder.names[name] = node = Node(mode)
            return node

    def _open(self, node: Node, path: str) -> int:
        with self._lock:
            number = next(numbers)
            self._handles[number] = Handle(node, path)
            return number

    def mkdir(self, path: str, mode: int) -> int:
        self._make("mkdir", path, stat.S_IFDIR | mode)
        return 0

    def mknod(self, path: str, mode: int, dev: int) -> int:
        self._make("mknod", path, mode)
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return self._open(self._make("create", path, stat.S_IFREG | mode), path)

    def symlink(self, target: str, source: str) -> int:
        node = self._make("symlink", target, stat.S_IFLNK | 0o777)
        node.data[:] = source.encode()
        node.sync()
        return 0

    def readlink(self, path: str) -> str:
        return self._find(path).data.decode()

    def unlink(self, path: str) -> int:
        with self._lock:
            self._change("unlink", path)
            folder, name = self._folder_of(path)
            folder.names.pop(name)
        return 0

    def rmdir(self, path: str) -> int:
        if self._find(path).names:
            raise OSError(errno.ENOTEMPTY, path)
        return self.unlink(path)

    def rename(self, old: str, new: str) -> int:
        with self._lock:
            self._change("rename", f"{old} to {new}")
            (source, was), (target, name) = self._folder_of(old), self._folder_of(new)
            target.names[name] = source.names[was]
            if (source, was) != (target, name):
                del source.names[was]
        return 0

    # Content

    def open(self, path: str, flags: int) -> int:
        return self._open(self._find(path), path)

    def opendir(self, path: str) -> int:
        return self._open(self._find(path), path)

    def _node(self, path: str | None, fh: int | None) -> Node:
        self._alive()
        return self._handles[fh].node if fh else self._find(path or "/")

    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, Any]:
        node = self._node(path, fh)
        return {
            "st_mode": node.mode, "st_ino": node.number, "st_size": len(node.data), "st_nlink": 1,
            "st_uid": os.getuid(), "st_gid": os.getgid(), "st_blocks": -(-len(node.data) // 512),
            "st_atime": node.time_ns, "st_mtime": node.time_ns, "st_ctime": node.time_ns,
        }  # fmt: skip

    def readdir(self, path: str | None, fh: int) -> Iterable[tuple[str, dict[str, int], int]]:
        folder = self._node(path, fh)
        entries = {".": folder, "..": folder, **folder.names}
        return [(name, {"st_mode": node.mode, "st_ino": node.number}, 0) for name, node in entries.items()]

    def read(self, path: str | None, size: int, offset: int, fh: int) -> bytes:
        with self._lock:
            return bytes(self._node(path, fh).data[offset : offset + size])

    def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:
        with self._lock:
            self._change("write", self._handles[fh].path)
            node = self._handles[fh].node
            if offset > len(node.data):
                node.data.extend(bytes(offset - len(node.data)))
            node.data[offset : offset + len(data)] = data
            node.time_ns = time.time_ns()
            return len(data)

    def truncate(self, path: str | None, length: int, fh: int | None = None) -> int:
        with self._lock:
            self._change("truncate", self._handles[fh].path if fh else path or "")
            node = self._node(path, fh)
            node.data[length:] = bytes(max(0, length - len(node.data)))
        return 0

    def fsync(self, path: str | None, datasync: int, fh: int) -> int:
        with self._lock:
            handle = self._handles[fh]
            self._change("fsync", handle.path)
            if not (self._ignores and fnmatch(handle.path, self._ignores)):
                handle.node.sync()
        return 0

    def fsyncdir(self, path: str | None, datasync: int, fh: int) -> int:
        return self.fsync(path, datasync, fh)

    def release(self, path: str | None, fh: int) -> int:
        with self._lock:
            self._handles.pop(fh, None)
        return 0

    def releasedir(self, path: str | None, fh: int) -> int:
        return self.release(path, fh)

    # Of no weight here

    def chmod(self, path: str | None, mode: int) -> int:
        if path is not None:
            node = self._find(path)
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        return 0

    def chown(self, path: str | None, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str | None, times: tuple[int, int] | None = None) -> int:
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": 1 << 20, "f_bavail": 1 << 20, "f_bfree": 1 << 20,
                "f_namemax": 255}  # fmt: skip


def listen(obey: Callable[[str], str]) -> None:
    for line in sys.stdin:
        print(obey(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mountpoint")
    parser.add_argument("image", type=Path)
    parser.add_argument("--ignores", default="")
    given = parser.parse_args()
    files = ForgetfulFs(given.image, given.ignores)
    threading.Thread(target=listen, args=(files.obey,), daemon=True).start()
    mfusepy.FUSE(
        files, given.mountpoint, foreground=True, nothreads=True, fsname="forgetful",
        kernel_cache=True, use_ino=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
