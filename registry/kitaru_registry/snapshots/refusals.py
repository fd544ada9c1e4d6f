"""What does not belong in a snapshot: secrets, pointers to files that are elsewhere, too much.

Pure functions over a file's name and bytes. What they return never holds the secret itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

MAX_BYTES = 50 * 1000 * 1000
MAX_FILES = 5000
ALLOWED = ("private-key", "env-file", "token", "url-credentials", "lfs", "link", "submodule", "size", "count")
"""What `--allow` may name."""

LFS_START = b"version https://git-lfs.github.com/spec/v1\n"
ENV_EXAMPLES = frozenset({"example", "sample", "template", "dist", "defaults"})
KEY_FILES = re.compile(r"id_(rsa|dsa|ecdsa|ed25519)(_sk)?|.*\.(p12|pfx|ppk|jks)")
LOGIN_FILES = frozenset({".netrc", "_netrc", ".pypirc", ".git-credentials", ".htpasswd", ".pgpass"})
DEPENDENCY_FILES = re.compile(
    r".*requirements.*\.(txt|in)|constraints.*\.txt|.*\.(toml|lock|cfg)|pip\.conf|pip\.ini|\.npmrc|\.yarnrc.*"
    r"|Pipfile|setup\.py|environment\.ya?ml|\.gitmodules"
)
# The header alone is in every library that reads keys; with base64 behind it, it is a key. In JSON the
# line ends are the two characters `\n`.
PRIVATE_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\\[nr]|\s|[A-Z][A-Za-z-]*: [^\n\\]*)*[A-Za-z0-9+/=]{24}"
)
LOOPBACK = re.compile(rb"(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?![\w.-])")
USERINFO = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^\s/?#@\"'`<>\\|]+)@(?=([\w\[.-]))")
PLACEHOLDER = re.compile(rb"[{}$<>%*]|\.\.\.")
TOO_FEW_DISTINCT = 8
"""A token of fewer different characters stands for one: `ghp_xxxxxxxx`."""


@dataclass(frozen=True)
class TokenForm:
    """What one issuer's tokens look like."""

    issuer: str
    needle: bytes
    """In every such token; looked for first, because that is a hundred times as fast."""
    pattern: re.Pattern[bytes]


def _form(issuer: str, needle: str, pattern: str) -> TokenForm:
    return TokenForm(issuer, needle.encode(), re.compile(rb"(?<![A-Za-z0-9])(?:" + pattern.encode() + rb")"))


TOKEN_FORMS = (
    _form("AWS", "AKIA", r"AKIA[0-9A-Z]{16}(?![0-9A-Za-z])"),
    _form("AWS", "ASIA", r"ASIA[0-9A-Z]{16}(?![0-9A-Za-z])"),
    *(_form("GitHub", f"gh{kind}_", rf"gh{kind}_[A-Za-z0-9]{{36,}}") for kind in "pousr"),
    _form("GitHub", "github_pat_", r"github_pat_[A-Za-z0-9_]{50,}"),
    _form("GitLab", "glpat-", r"glpat-[A-Za-z0-9_-]{20,}"),
    *(_form("Slack", f"xox{kind}-", rf"xox{kind}-[0-9A-Za-z-]{{20,}}") for kind in "abposr"),
    _form("Slack", "xapp-", r"xapp-[0-9]-[A-Z0-9]+-[0-9]+-[a-z0-9]{20,}"),
    _form("Slack", "hooks.slack.com/", r"hooks\.slack\.com/services/T[0-9A-Z]+/B[0-9A-Z]+/[0-9A-Za-z]{20,}"),
    _form("Anthropic", "sk-ant-", r"sk-ant-[a-z0-9]+-[A-Za-z0-9_-]{40,}"),
    _form("OpenAI", "sk-", r"sk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{40,}|sk-[A-Za-z0-9]{40,}"),
    _form("OpenRouter", "sk-or-", r"sk-or-v1-[0-9a-f]{64}"),
    _form("Google", "AIza", r"AIza[0-9A-Za-z_-]{35}"),
    _form("Google", "GOCSPX-", r"GOCSPX-[0-9A-Za-z_-]{28}"),
    _form("Google", "ya29.", r"ya29\.[0-9A-Za-z_-]{30,}"),
    _form("Stripe", "k_live_", r"[sr]k_live_[0-9A-Za-z]{20,}"),
    _form("Hugging Face", "hf_", r"hf_[A-Za-z0-9]{34,}"),
    _form("npm", "npm_", r"npm_[A-Za-z0-9]{36}"),
    _form("npm", "_authToken", r"_authToken\s*=\s*[\"']?[A-Za-z0-9_=+/.-]{16,}"),
    _form("PyPI", "pypi-", r"pypi-[A-Za-z0-9_-]{70,}"),
    _form("SendGrid", "SG.", r"SG\.[\w-]{22}\.[\w-]{43}"),
    _form("Groq", "gsk_", r"gsk_[A-Za-z0-9]{48,}"),
    _form("DigitalOcean", "dop_v1_", r"dop_v1_[0-9a-f]{64}"),
    _form("Databricks", "dapi", r"dapi[0-9a-f]{32}"),
    _form("Azure", "AccountKey=", r"AccountKey=[A-Za-z0-9+/]{86}=="),
)


@dataclass(frozen=True)
class Refusal:
    """One thing that a deploy refuses, and the name that allows it."""

    allow: str
    path: str
    line: int | None
    what: str

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.what} (--allow {self.allow})"


def scan(path: str, content: bytes, *, target: str | None = None) -> Iterator[Refusal]:
    """Everything in one file that is refused, each kind at its first place.

    Args:
        target: the name of the file that a symbolic link at `path` stands for.
    """
    name = PurePosixPath(path).name
    names = {name, target or name}
    if any(_is_env_file(each) for each in names):
        yield Refusal("env-file", path, None, "a file of environment variables, which hold secrets")
    if names & LOGIN_FILES:
        yield Refusal("token", path, None, "a file of logins")
    yield from _private_keys(path, names, content)
    yield from _tokens(path, content)
    yield from _url_credentials(path, name, content)
    if content.startswith(LFS_START):
        yield Refusal("lfs", path, None, "a Git LFS pointer instead of the file; run git lfs pull")


def too_much(sizes: dict[str, int]) -> Iterator[Refusal]:
    """Whether these files are too large, or too many, together; the ten largest are named."""
    total = sum(sizes.values())
    largest = ", ".join(f"{path} ({size:,} bytes)" for path, size in _ten_largest(sizes))
    if total > MAX_BYTES:
        what = f"{total:,} bytes are more than {MAX_BYTES:,}; the largest: {largest}"
        yield Refusal("size", "all files", None, what)
    if len(sizes) > MAX_FILES:
        what = f"{len(sizes):,} files are more than {MAX_FILES:,}; the largest: {largest}"
        yield Refusal("count", "all files", None, what)


def _ten_largest(sizes: dict[str, int]) -> Iterable[tuple[str, int]]:
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:10]


def _is_env_file(name: str) -> bool:
    stem, _, kind = name.partition(".env")
    return not stem and ".env" in name and (not kind or kind[0] == ".") and kind[1:] not in ENV_EXAMPLES


def _private_keys(path: str, names: set[str], content: bytes) -> Iterator[Refusal]:
    found = PRIVATE_KEY.search(content) if b"PRIVATE KEY" in content else None
    if found:
        yield Refusal("private-key", path, _line(content, found.start()), "a private key")
    elif any(KEY_FILES.fullmatch(name) for name in names) or content.startswith(b"PuTTY-User-Key-File-"):
        yield Refusal("private-key", path, None, "a file of private keys")


def _tokens(path: str, content: bytes) -> Iterator[Refusal]:
    for form in TOKEN_FORMS:
        if form.needle not in content:
            continue
        for found in form.pattern.finditer(content):
            if len(set(found[0])) >= TOO_FEW_DISTINCT and not found[0].endswith(b"EXAMPLE"):
                yield Refusal("token", path, _line(content, found.start()), f"a token of {form.issuer}")
                break


def _url_credentials(path: str, name: str, content: bytes) -> Iterator[Refusal]:
    if b"://" not in content:
        return
    is_dependency_file = DEPENDENCY_FILES.fullmatch(name) is not None
    for found in USERINFO.finditer(content):
        if _is_login(found, is_dependency_file=is_dependency_file):
            yield Refusal("url-credentials", path, _line(content, found.start()), "a login inside an address")
            return


def _is_login(found: re.Match[bytes], *, is_dependency_file: bool) -> bool:
    """Whether a user before the `@` is a secret: in a dependency file a user alone may be a token."""
    scheme, userinfo = found[1].lower(), found[2]
    _, colon, password = userinfo.partition(b":")
    if PLACEHOLDER.search(userinfo):
        return False
    if not colon or not password:
        return is_dependency_file and not scheme.endswith(b"ssh") and userinfo != b"git"
    return is_dependency_file or not LOOPBACK.match(found.string, found.end())


def _line(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1
