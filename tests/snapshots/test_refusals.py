"""What is refused as a secret, what is not, and that the secret is never shown.

The secrets here are put together when the test runs: written out, they would be refused themselves.
"""

from __future__ import annotations

import string

import pytest
from trees import Tree

from kitaru_registry.errors import KitaruDeployError
from kitaru_registry.snapshots.refusals import scan

RANDOM = (string.ascii_letters + string.digits) * 4
HEX = "0123456789abcdef" * 6
KEY_BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"


def kinds(path: str, content: str | bytes) -> set[str]:
    return {refusal.allow for refusal in scan(path, content.encode() if isinstance(content, str) else content)}


def pem(kind: str, newline: str = "\n", headers: str = "") -> str:
    return f"-----BEGIN {kind}-----{newline}{headers}{KEY_BODY}{newline}-----END {kind}-----{newline}"


PRIVATE_KEYS = {
    "pkcs8.pem": pem("PRIVATE KEY"),
    "rsa.pem": pem("RSA PRIVATE KEY", "\r\n"),
    "encrypted.pem": pem("RSA PRIVATE KEY", headers="Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00FF\n\n"),
    "openssh": pem("OPENSSH PRIVATE KEY"),
    "pgp.asc": pem("PGP PRIVATE KEY BLOCK", headers="Version: GnuPG\n\n"),
    "service-account.json": '{"private_key": "' + pem("PRIVATE KEY", "\\n") + '"}',
    "settings.py": f'KEY = """{pem("EC PRIVATE KEY")}"""',
}


@pytest.mark.parametrize("name", PRIVATE_KEYS)
def test_a_private_key_is_refused_in_any_file(name: str) -> None:
    assert kinds(name, PRIVATE_KEYS[name]) == {"private-key"}


@pytest.mark.parametrize("name", ["id_rsa", "deep/id_ed25519", "login.p12", "a.ppk"])
def test_a_key_file_is_refused_by_its_name(name: str) -> None:
    assert kinds(name, b"\x00\x01") == {"private-key"}


@pytest.mark.parametrize(
    "content",
    [
        pem("PUBLIC KEY"),
        pem("CERTIFICATE"),
        'if text.startswith("-----BEGIN PRIVATE KEY-----"):\n    return load(text)',
    ],
)
def test_public_keys_and_code_that_reads_keys_are_not_refused(content: str) -> None:
    assert kinds("keys.py", content) == set()


@pytest.mark.parametrize("name", [".env", "deep/.env", ".env.local", ".env.production"])
def test_an_env_file_is_refused(name: str) -> None:
    assert kinds(name, "A=1") == {"env-file"}


@pytest.mark.parametrize("name", [".env.example", ".env.template", "env.py", ".environment", "my.env.py"])
def test_examples_of_env_files_and_other_names_are_not_refused(name: str) -> None:
    assert kinds(name, "A=1") == set()


TOKENS = {
    "AWS": "AKIA" + RANDOM[30:46].upper(),
    "GitHub": "ghp_" + RANDOM[:36],
    "GitHub fine-grained": "github_pat_" + RANDOM[:82],
    "GitLab": "glpat-" + RANDOM[:20],
    "Slack": "xoxb-" + "123456789012-" + RANDOM[:24],
    "Anthropic": "sk-ant-" + "api03-" + RANDOM[:93],
    "OpenAI": "sk-" + "proj-" + RANDOM[:48],
    "OpenAI before": "sk-" + RANDOM[:48],
    "OpenRouter": "sk-or-" + "v1-" + HEX[:64],
    "Google": "AIza" + RANDOM[:35],
    "Stripe": "sk_" + "live_" + RANDOM[:24],
    "Hugging Face": "hf_" + RANDOM[:34],
    "npm": "npm_" + RANDOM[:36],
    "PyPI": "pypi-" + RANDOM[:100],
    "SendGrid": "SG." + RANDOM[:22] + "." + RANDOM[:43],
    "Groq": "gsk_" + RANDOM[:52],
    "DigitalOcean": "dop_v1_" + HEX[:64],
    "Databricks": "dapi" + HEX[:32],
    "Azure": "AccountKey" + "=" + RANDOM[:86] + "==",
}


@pytest.mark.parametrize("issuer", TOKENS)
@pytest.mark.parametrize("around", ["TOKEN = '{}'\n", "{}", '{{"key":"{}"}}', "Bearer {} \n", "\x00\x01{}\x00"])
def test_a_token_is_refused_wherever_it_stands(issuer: str, around: str) -> None:
    assert kinds("settings.py", around.format(TOKENS[issuer])) == {"token"}


@pytest.mark.parametrize(
    "content",
    ["ghp_" + "x" * 36, "sk-ant-api03-...", "AKIAIOSFODNN7EXAMPLE", "task-" + RANDOM[:48], "sk-learn", HEX, RANDOM],
)
def test_placeholders_and_words_that_begin_alike_are_not_refused(content: str) -> None:
    assert kinds("settings.py", content) == set()


def test_a_login_in_npmrc_is_refused_and_a_variable_is_not() -> None:
    assert kinds(".npmrc", f"//registry.example/:_authToken={RANDOM[:30]}") == {"token"}
    assert kinds(".npmrc", "//registry.example/:_authToken=${NPM_TOKEN}") == set()


@pytest.mark.parametrize("name", [".netrc", ".pypirc", ".git-credentials"])
def test_a_file_of_logins_is_refused(name: str) -> None:
    assert kinds(name, "") == {"token"}


def login(text: str) -> str:
    return text.replace("USERINFO", "alice:" + "hunter2")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("requirements.txt", "--index-url https://USERINFO@pypi.example.com/simple\n"),
        ("requirements/dev.requirements.txt", "tool @ git+https://USERINFO@host.example/tool.git\n"),
        ("requirements.txt", "--index-url http://USERINFO@localhost:3141/simple\n"),
        ("pyproject.toml", 'url = "https://USERINFO@pypi.example.com/simple"\n'),
        ("pip.conf", "extra-index-url = https://USERINFO@pypi.example.com/simple\n"),
        (".npmrc", "registry=https://USERINFO@npm.example.com/\n"),
        ("settings.py", 'DATABASE = "postgresql://USERINFO@db.internal/app"\n'),
        ("notes.md", "see <https://USERINFO@host.example/>\n"),
    ],
)
def test_a_login_in_an_address_is_refused(name: str, content: str) -> None:
    assert kinds(name, login(content)) == {"url-credentials"}


def test_a_user_alone_may_be_a_token_in_a_dependency_file() -> None:
    index = "--index-url https://" + "s3cr3t" + "@pypi.example.com/simple"

    assert kinds("requirements.txt", index) == {"url-credentials"}
    assert kinds("notes.md", index) == set()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("requirements.txt", "--index-url https://${USER}:${TOKEN}@pypi.example.com/simple"),
        ("requirements.txt", "tool @ git+ssh://git@host.example/tool.git@v1"),
        ("requirements.txt", "tool @ git+https://host.example/tool.git@v1"),
        ("settings.py", 'f"postgresql://{user}:{password}@{host}/app"'),
        ("settings.py", login("redis://USERINFO@localhost:6379/0")),
        ("settings.py", 'URL = "https://example.com/a" # see alice@example.com'),
        ("settings.py", '"https://example.com", "alice:secret@example.com"'),
        ("notes.md", "https://<user>:<password>@host.example"),
    ],
)
def test_variables_and_loopback_addresses_are_not_refused(name: str, content: str) -> None:
    assert kinds(name, content) == set()


def test_a_pointer_of_git_lfs_is_refused_and_text_about_it_is_not() -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"

    assert kinds("model.bin", pointer) == {"lfs"}
    assert kinds("notes.md", "A pointer begins: " + pointer) == set()


def test_the_message_names_place_and_way_out_and_never_the_secret(tree: Tree) -> None:
    tree.write(
        {"a.py": f"\n\nT = '{TOKENS['GitHub']}'\n", "key.pem": PRIVATE_KEYS["pkcs8.pem"], ".env": "PASSWORD=hunter2"}
    )
    tree.write({"requirements.txt": login("--index-url https://USERINFO@pypi.example.com/simple")})

    with pytest.raises(KitaruDeployError) as refused:
        tree.collect()

    told = f"{refused.value.message}\n{refused.value.hint}\n{refused.value.detail}"
    assert "a.py:3: a token of GitHub (--allow token)" in told
    assert "key.pem:1: a private key (--allow private-key)" in told
    assert "--allow env-file --allow private-key --allow token --allow url-credentials" in told
    for secret in (RANDOM[:8], KEY_BODY[:8], "hunter2", "alice"):
        assert secret not in told


def test_each_kind_is_allowed_by_its_own_name_only(tree: Tree) -> None:
    tree.write({".env": "A=1", "key.pem": PRIVATE_KEYS["pkcs8.pem"]})

    with pytest.raises(KitaruDeployError, match="private-key"):
        tree.collect(allow=("env-file",))
    assert tree.paths(allow=("env-file", "private-key")) == [".env", "key.pem"]
