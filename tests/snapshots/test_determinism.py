"""The same tree is the same digest: whoever packs it, where, when and how the files came to be there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import Tree

from kitaru_registry.models import SnapshotFacts
from kitaru_registry.snapshots.artifact import code_tar, pack, unpack_code
from kitaru_registry.snapshots.files import collect
from kitaru_registry.snapshots.refusals import ALLOWED
from kitaru_registry.stores.layout import OciLayout

PACK = """
import sys
from pathlib import Path
from kitaru_registry.models import SnapshotFacts
from kitaru_registry.snapshots.artifact import pack
from kitaru_registry.snapshots.files import collect
from kitaru_registry.snapshots.git import read_git
from kitaru_registry.stores.layout import OciLayout

root, layout, facts = Path(sys.argv[1]), Path(sys.argv[2]), SnapshotFacts.model_validate_json(sys.argv[3])
collection = collect(root, git=read_git(root))
print(pack(OciLayout(layout), facts=facts, collection=collection, lock=b"lock", wheels={}).digest)
"""

FILES: dict[str, str | bytes] = {
    "flows/review.py": "def review(topic):\n    return topic\n",
    "flows/größe.py": "x = 'ß'\n",
    "data/table.bin": bytes(range(256)) * 40,
    "empty.txt": "",
    f"{'deep/' * 30}file.py": "y = 1\n",
    "run.sh": "#!/bin/sh\nexit 0\n",
    ".gitignore": "*.log\n",
}


def fill(root: Path, *, order: int = 0) -> Tree:
    names = list(FILES)
    random.Random(order).shuffle(names)
    tree = Tree(root).write({name: FILES[name] for name in names})
    (root / "run.sh").chmod((root / "run.sh").stat().st_mode | 0o100)
    return tree


def digest_of(root: Path, facts: SnapshotFacts, *, env: Mapping[str, str] = {}, umask: int = 0o022) -> str:
    """What a process of its own packs the folder into."""
    with tempfile.TemporaryDirectory() as layout:
        done = subprocess.run(
            [sys.executable, "-c", PACK, str(root), layout, facts.model_dump_json()],
            env={**os.environ, **env},
            umask=umask,
            cwd="/",
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def original(repository: Tree, facts: SnapshotFacts) -> tuple[Tree, str]:
    fill(repository.root).commit()
    return repository, digest_of(repository.root, facts)


def clone(original: Tree, target: Path, *, umask: int = 0o022) -> Tree:
    command = ["git", "clone", "--quiet", str(original.root), str(target)]
    subprocess.run(command, check=True, umask=umask)
    return Tree(target)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_clone_under_another_umask_is_the_same(
    original: tuple[Tree, str], facts: SnapshotFacts, tmp_path: Path, umask: int
) -> None:
    tree, digest = original
    copy = clone(tree, tmp_path / "elsewhere" / "and deeper", umask=umask)

    assert digest_of(copy.root, facts, umask=umask) == digest


@pytest.mark.parametrize(
    "env",
    [
        {"TZ": "Pacific/Kiritimati"},
        {"LANG": "tr_TR.UTF-8", "LC_ALL": "C"},
        {"HOME": "/nonexistent", "USER": "grace", "LOGNAME": "grace"},
        {"PYTHONHASHSEED": "1"},
        {"PYTHONHASHSEED": "2", "SOURCE_DATE_EPOCH": "1"},
    ],
    ids=lambda env: next(iter(env)),
)
def test_another_environment_is_the_same(original: tuple[Tree, str], facts: SnapshotFacts, env: dict[str, str]) -> None:
    tree, digest = original

    assert digest_of(tree.root, facts, env=env) == digest


def test_other_owners_and_times_are_the_same(original: tuple[Tree, str], facts: SnapshotFacts) -> None:
    tree, digest = original
    for path in tree.root.rglob("*"):
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534)
        os.utime(path, (86_400, 86_400))

    assert digest_of(tree.root, facts) == digest


def test_files_made_in_another_order_are_the_same(
    original: tuple[Tree, str], facts: SnapshotFacts, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = fill(tmp_path / "other", order=7)

    assert digest_of(other.root, facts) == original[1]


def test_a_dirty_tree_is_the_same_as_when_it_is_committed(original: tuple[Tree, str], facts: SnapshotFacts) -> None:
    tree, before = original
    tree.write({"flows/review.py": "def review(topic): ...\n", "flows/new.py": "", "__pycache__/x.pyc": ""})

    dirty = digest_of(tree.root, facts)
    tree.commit()

    assert digest_of(tree.root, facts) == dirty != before


def test_where_the_commit_is_and_what_it_says_does_not_count(original: tuple[Tree, str], facts: SnapshotFacts) -> None:
    tree, digest = original
    tree.git("remote", "add", "origin", "https://host.example/repo")
    tree.git("checkout", "--quiet", "-b", "side")
    tree.commit("nothing but a message")
    tree.git("tag", "v1")
    tree.git("checkout", "--quiet", "--detach")

    assert digest_of(tree.root, facts) == digest


def test_a_commit_that_changes_only_kitaru_toml_is_the_same(original: tuple[Tree, str], facts: SnapshotFacts) -> None:
    tree, digest = original
    tree.write({"kitaru.toml": 'project = "team"\n', ".github/workflows/ci.yml": "on: push\n"}).commit()

    assert digest_of(tree.root, facts) == digest


def test_the_format_has_not_drifted(tmp_path: Path, facts: SnapshotFacts) -> None:
    """Snapshots of released versions have these digests; another Python, or a refactoring, must not change them."""
    tree = fill(tmp_path)
    packed = pack(OciLayout(tmp_path / "layout"), facts=facts, collection=tree.collect(), lock=b"lock", wheels={})

    assert packed.config.code == "sha256:f03cf0c934df2d42bcdb74ca8963dd75151e5a7a4b4267c70c03d20f4917d888"
    assert packed.digest == "sha256:c5f3e484d36a0530300ff46f60bdc3c93c4c55c6c6a111051a6103216bb27297"


names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=8
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 100)
trees = st.dictionaries(
    st.lists(names, min_size=1, max_size=3).map("/".join).map("top/{}.txt".format),
    st.tuples(st.binary(max_size=60), st.booleans()),
    min_size=1,
    max_size=8,
)


def plant(files: Mapping[str, tuple[bytes, bool]], order: list[str], umask: int) -> Path:
    root = Path(tempfile.mkdtemp())
    previous = os.umask(umask)
    try:
        for name in order:
            content, executable = files[name]
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            if executable:
                file.chmod(file.stat().st_mode | 0o100)
    finally:
        os.umask(previous)
    return root


@given(files=trees, order=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_any_tree_packs_the_same_in_any_order_and_unpacks_to_itself(
    files: dict[str, tuple[bytes, bool]], order: random.Random
) -> None:
    shuffled = list(files)
    order.shuffle(shuffled)
    one, other = plant(files, list(files), 0o022), plant(files, shuffled, 0o077)

    code = code_tar(collect(one, git=None, allow=ALLOWED))
    assert code == code_tar(collect(other, git=None, allow=ALLOWED))

    unpack_code(code, one / "unpacked")
    for name, (content, executable) in files.items():
        unpacked = one / "unpacked" / name
        assert (unpacked.read_bytes(), unpacked.stat().st_mode & 0o777) == (content, 0o555 if executable else 0o444)
