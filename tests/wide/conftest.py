"""Beside what tools and frameworks are today: `make test-wide`, which needs the package index and some minutes."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("KITARU_WIDE") else ["test_*.py"]
