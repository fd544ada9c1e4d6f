"""Words for a command line, and values for a call, that nobody means: text of every kind, sizes, depths."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

BAD_TEXT = "r\udce9sum\udce9"
"""As the bytes of a file name that are no UTF-8 come out of `sys.argv` and `os.listdir`."""

LONG = "l" * 100_000
DEEP = "[" * 50_000
DEEP_OBJECT = '{"a":' * 50_000

WORDS = r"""
- -- --- -1 0 00 1 1.5 1e400 nan Infinity -0 True null / .. ../.. ./ a/b /nonexistent/x ~ ~nobody/x @ @x @- @/
@/proc/self/mem : a:b a.py:b @sha256: x@y@z default/x@v1 v0 v1 # a#2 ! a!early = a= =b a=b a.b=c % _ * ? [a- \ ' "
; $(x) {} %s {0} 2h 0s 2026-01-31 2026-13-01 0001-01-01 9999-12-31T23:59:59 2026-01-31T12:00+99:00
"""

ODD = (
    *WORDS.split(), "", " ", "\t\n", "9" * 30, "9" * 5_000, "9" * 9 + "w", "9" * 20 + "d", str(2**63), str(2**63 - 1),
    str(-(2**63) - 1), BAD_TEXT, "\ud800", "\udc00\ud800", "\0", "a\0b", "\x1b[31mred", "\r", "\u202e", "\u2028",
    "\u0661", "\uff11", "\ufeff", "e\u0301", LONG, "\u00e9" * 10_000, "x" * 300, "x/" * 3_000, "@" + BAD_TEXT,
    "@sha256:" + "0" * 64, "v" + "9" * 40, "a\0=b", BAD_TEXT + "=x", "a=" + BAD_TEXT,
)  # fmt: skip

JSON = (
    "{", "[]", "{}", "null", "true", "1e999", "-", '"', '"\\ud800"', '{"k": "\\ud800"}', '{"topic": "\\ud800"}',
    '{"\\udc00": 1}', '{"topic": "x"}', '{"topic": 7}', '{"topic": "x", "topic": "y"}', '{"topic": NaN}',
    '{"topic": ' + "9" * 6_000 + "}", '{"topic": "\\u0000"}', '{"topic": "' + "x" * 100_000 + '"}', DEEP, DEEP_OBJECT,
    "[" * 400 + "]" * 400, '{"topic": ' + "[" * 400 + "]" * 400 + "}", '{"a": ' * 900 + "1" + "}" * 900, '{"": 1}',
    '{"$": 1}', '{"checkpoint.draft": 1}', '{"checkpoint.draft": "\\ud800"}', '{"wait.approve": true}', "\ufeff{}",
    BAD_TEXT, "{}\0",
)  # fmt: skip

wild = st.text(st.characters(codec=None, categories=None), max_size=12)
"""Any characters, lone surrogates and NUL too."""


def words(known: Sequence[str]) -> st.SearchStrategy[str]:
    """Words of every kind, those that name something among them."""
    return st.sampled_from(known) | st.sampled_from(ODD) | st.sampled_from(JSON) | wild
