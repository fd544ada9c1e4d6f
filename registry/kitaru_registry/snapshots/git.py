"""What git says of a folder: which files belong to it, and where they came from. The one user of GitPython."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from kitaru_registry.errors import KitaruBackendError
from kitaru_registry.models import GitFacts, Origin

# A hook of git runs with these set: they would point every call at the hook's own repository and index.
SET_BY_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
ENVIRONMENT = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
SUBMODULE_MODE = "160000"
AUTHORITY_END = re.compile(r"[/?#]")
HOST = re.compile(
    r"(?:(?:[a-z0-9-]+\.)+[a-z]{2,24}|localhost|[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9a-f:.]+\])(?::[0-9]+)?",
    re.IGNORECASE,
)
FATAL = 128


@dataclass(frozen=True)
class GitState:
    """What a folder in a repository looks like now."""

    facts: GitFacts
    root_commit: str | None
    """The first commit of the first-parent line; None before it, and in a shallow clone, which lacks it."""
    files: tuple[str, ...]
    """Tracked, and untracked but not ignored; in submodules too. Relative to the folder, sorted, on disk now."""
    missing_submodules: tuple[str, ...] = ()
    """Submodules that are not checked out."""
    prefix: str = ""
    """Where the folder is in its repository: empty at the top, else `services/notes/`."""


def read_git(folder: Path) -> GitState | None:
    """What git says of `folder`; None where it is in no repository, or in a part that git ignores.

    Works on detached heads, before the first commit, in worktrees, submodules and shallow clones. Other
    repositories inside that are no submodules are left out, as `git add` would. Writes nothing, not even
    git's own cache of the index.

    Raises:
        KitaruBackendError: there is a repository, but git is not installed, or refuses to read it.
    """
    absolute = folder.absolute()
    if not any((parent / ".git").exists() for parent in (absolute, *absolute.parents)):
        return None
    git = _Git(absolute)
    files, missing = _list(git)
    if not files and git.says_yes("check-ignore", "--quiet", "."):
        return None
    facts = _facts(git)
    root_commit, prefix = _place(git, facts)
    return GitState(facts, root_commit, tuple(sorted(files)), tuple(sorted(missing)), prefix)


def ignored_by_git(folder: Path, *, prefix: str) -> tuple[str, ...]:
    """What is there and ignored, relative to the folder; of a folder that is ignored as a whole its name, with a slash.

    Args:
        prefix: where the folder is in its repository.
    """
    options = ["--porcelain=v1", "--ignored=matching", "--untracked-files=all", "-z", "--", "."]
    entries = _entries(_Git(folder.absolute()).text("status", *options))
    return tuple(sorted(entry[3:].removeprefix(prefix) for entry in entries if entry.startswith("!! ")))


def origin_of(folder: Path, state: GitState | None) -> Origin:
    """Who a flow name that is deployed from `folder` belongs to."""
    return Origin(
        remote=state.facts.remote if state else None,
        root_commit=state.root_commit if state else None,
        folder=str(folder.resolve()),
        prefix=state.prefix if state else "",
    )


def without_credentials(url: str) -> str:
    """The address without user, password, query and fragment; `git@host:path` as `host:path`.

    A password may hold what should be written as %2F or %23 there: what comes before an `@` is an address only where it
    begins with what a host looks like.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return re.sub(r"^[^/].*@(?=[^/:@]+:)", "", url)
    while "@" in rest:
        authority = AUTHORITY_END.split(rest, maxsplit=1)[0]
        if "@" not in authority and HOST.fullmatch(authority):
            break
        rest = rest[rest.rindex("@", 0, len(authority) if "@" in authority else len(rest)) + 1 :]
    return f"{scheme}://{rest.partition('?')[0].partition('#')[0]}"


class _Git:
    """git in one folder, with nothing inherited from a hook."""

    def __init__(self, folder: Path) -> None:
        try:
            # Here, because importing it runs git: a folder without a repository needs neither.
            import git
        except ImportError as error:
            raise _not_installed(folder) from error
        self.folder = folder
        self._git = git.Git(str(folder))
        self._absent = git.GitCommandNotFound

    def call(self, *arguments: str) -> tuple[int, bytes]:
        """The exit code and what was printed.

        Raises:
            KitaruBackendError: git could not do it at all.
        """
        unset = [part for name in SET_BY_HOOKS for part in ("-u", name)]
        try:
            code, out, err = self._git.execute(
                ["env", *unset, "git", *arguments],
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
                env=ENVIRONMENT,
            )
        except self._absent as error:
            raise _not_installed(self.folder) from error
        if code >= FATAL - 1:
            raise KitaruBackendError(
                f"git cannot read {self.folder}: {_first_line(err)}", hint=f"git -C {self.folder} status"
            )
        return code, out if isinstance(out, bytes) else out.encode()

    def text(self, *arguments: str) -> str:
        return os.fsdecode(self.call(*arguments)[1])

    def says_yes(self, *arguments: str) -> bool:
        return self.call(*arguments)[0] == 0


def _not_installed(folder: Path) -> KitaruBackendError:
    return KitaruBackendError(
        f"{folder} is in a git repository, but there is no git program to read it", hint="apt-get install git"
    )


def _first_line(message: bytes | str) -> str:
    text = message.decode(errors="replace") if isinstance(message, bytes) else message
    return re.sub(r"://[^/@\s]*@", "://", next(iter(text.strip().splitlines()), "no reason given"))


def _list(git: _Git, prefix: str = "") -> tuple[set[str], set[str]]:
    """The files below the folder and the submodules that are missing, with `prefix` before each."""
    files: set[str] = set()
    missing: set[str] = set()
    for entry in _entries(git.text("ls-files", "-z", "--cached", "--stage")):
        about, _, path = entry.partition("\t")
        if not about.startswith(SUBMODULE_MODE):
            files.add(path)
        elif (git.folder / path / ".git").exists():
            inside, lacking = _list(_Git(git.folder / path), prefix=f"{path}/")
            files |= inside
            missing |= lacking
        else:
            missing.add(path)
    # A folder here is another repository, which git would not add.
    others = _entries(git.text("ls-files", "-z", "--others", "--exclude-standard"))
    files |= {path for path in others if not path.endswith("/")}
    on_disk = {prefix + path for path in files if os.path.lexists(git.folder / path)}
    return on_disk, {prefix + path for path in missing}


def _entries(output: str) -> list[str]:
    return [entry for entry in output.split("\0") if entry]


def _facts(git: _Git) -> GitFacts:
    status = git.text("status", "--porcelain=v2", "--branch", "--untracked-files=all", "-z", "--", ".")
    entries = _entries(status)
    about = dict(entry[2:].split(" ", 1) for entry in entries if entry.startswith("# "))
    commit, branch = about.get("branch.oid"), about.get("branch.head")
    return GitFacts(
        commit=None if commit == "(initial)" else commit,
        branch=None if branch == "(detached)" else branch,
        dirty=any(not entry.startswith("# ") for entry in entries),
        remote=_remote(git),
    )


def _remote(git: _Git) -> str | None:
    """The address of `origin`, else of the first remote by name."""
    lines = _entries(git.text("config", "-z", "--get-regexp", r"^remote\..*\.url$"))
    urls: dict[str, str] = {}
    for line in lines:
        key, _, url = line.partition("\n")
        urls.setdefault(key.removeprefix("remote.").removesuffix(".url"), url)
    chosen = urls.get("origin") or next((urls[name] for name in sorted(urls)), None)
    return without_credentials(chosen) if chosen else None


def _place(git: _Git, facts: GitFacts) -> tuple[str | None, str]:
    """The first commit, and where the folder is in its repository."""
    shallow, _, prefix = git.text("rev-parse", "--is-shallow-repository", "--show-prefix").rstrip("\n").partition("\n")
    if facts.commit is None or shallow == "true":
        return None, prefix
    return git.text("rev-list", "--max-parents=0", "--first-parent", "HEAD").strip() or None, prefix
