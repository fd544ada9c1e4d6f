# Two commands on a fresh machine: `make demo` and `make test`. They need python3 >= 3.11 with pip and venv, git and
# make; everything else they put into a folder of this checkout. PYTHON=python3.13 chooses another Python.

PYTHON ?= python3
REPO ?= $(CURDIR)
# pytest's own options: make test TESTS=tests/cli OPTIONS="-k init -x"
TESTS ?= tests
OPTIONS ?=
TURNS ?= 10
# Random kills in each turn of make soak: 300 in ten.
KILLS ?= 30

SOURCES := $(shell find registry runner sdk cli templates -type f -not -path '*/__pycache__/*' | LC_ALL=C sort)
# The tests start `kitaru` in environments of their own; nothing of the caller's may reach them.
CLEAN := env -u PYTHONDONTWRITEBYTECODE -u PYTHONPATH -u PYTHONHOME -u VIRTUAL_ENV -u CONDA_PREFIX -u KITARU_HOME \
         -u KITARU_PROJECT -u KITARU_ACTOR -u UV_PROJECT_ENVIRONMENT
DEMO := .venv-demo/bin
TEST := .venv-test/bin

.PHONY: help demo test test-wide lint format bench bench-peers soak lock clean tools soak-tools FORCE
.DELETE_ON_ERROR:

help:
	@echo "make demo    the product, told as one story, on the history of this repository (REPO=folder: of another)"
	@echo "make test    lint, types, layers, and every test on the built wheel"
	@echo "make test-wide  locks that uv, pip, PDM and Poetry make today, and values of agent frameworks"
	@echo "make lint    the first three of these"
	@echo "make bench   the speed of what matters, beside the limits of this machine: docs/benchmarks.md"
	@echo "make bench-peers  the same work by DBOS, LangGraph and Absurd, from the package index: their part of that page"
	@echo "make soak    crash and property tests over and over, with new examples, power cuts and random kills (TURNS=10)"
	@echo "make format  lay out the code"
	@echo "make lock    choose new versions of the test tools"
	@echo "make clean   remove everything that these commands made"

demo: .venv-demo/kitaru
	@$(CLEAN) $(DEMO)/python docs/demo/demo.py --repository "$(REPO)"

test: tools lint
	@$(CLEAN) KITARU_TEST_WHEEL=1 $(TEST)/pytest -n 2 --dist loadfile $(OPTIONS) $(TESTS)

lint: .venv-test/kitaru
	@$(CLEAN) $(TEST)/ruff check .
	@$(CLEAN) $(TEST)/ruff format --check --quiet . || { echo "the layout differs: make format"; exit 1; }
	@$(CLEAN) $(TEST)/mypy
	@$(CLEAN) MYPYPATH=docs/demo $(TEST)/mypy docs/demo docs/generate.py
	@$(CLEAN) $(TEST)/lint-imports --no-cache

format: .venv-test/tools
	@$(TEST)/ruff check --fix . && $(TEST)/ruff format .

# BENCH=--long: up to 100,000 checkpoints and executions
bench: .venv-test/kitaru
	@$(CLEAN) $(TEST)/python tests/bench/run.py $(BENCH)

# PEERS=absurd: that one alone, printed, and nothing written. Without PostgreSQL, its rows say how to get it.
bench-peers: .venv-test/kitaru
	@$(CLEAN) $(TEST)/python tests/bench/peers/compare.py $(PEERS)

# SOAK_SEED, the turn, chooses when the power is cut, and which 2,000 random programs run: SOAK_SEED=7 KITARU_SOAK=1
# pytest tests/soak repeats turn 7. Of a random program that failed, SEED=106 pytest tests/runner/test_random_programs.py.
soak: tools soak-tools .venv-test/kitaru
	@for turn in $$(seq $(TURNS)); do echo "turn $$turn of $(TURNS)"; \
	  $(CLEAN) KITARU_TEST_WHEEL=1 KITARU_SOAK=1 SOAK_SEED=$$turn KILLS=$(KILLS) HYPOTHESIS=random $(TEST)/pytest -n 2 \
	    --dist loadfile $(OPTIONS) tests/crash tests/runner tests/snapshots tests/cli/test_any_words.py \
	    tests/sdk/test_any_arguments*.py tests/soak || exit 1; done

# What tests use beside Python packages: skopeo reads snapshots, strace injects faults, unshare cuts the network off; a
# record is in a real PostgreSQL, too.
tools:
	@missing=; for tool in skopeo strace unshare; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$$missing postgresql"; \
	test -z "$$missing" && exit 0; packages=$$(echo $$missing | sed s/unshare/util-linux/); \
	command -v apt-get >/dev/null && test "$$(id -u)" = 0 || \
	  { echo "the tests need$$missing: sudo apt-get install -y $$packages"; exit 1; }; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$packages

# A file system of the tests' own, for power cuts.
soak-tools:
	@test -c /dev/fuse || { echo "make soak needs /dev/fuse, which this machine does not have: modprobe fuse"; exit 1; }
	@command -v fusermount3 >/dev/null && exit 0; \
	command -v apt-get >/dev/null && test "$$(id -u)" = 0 || \
	  { echo "make soak needs fusermount3: sudo apt-get install -y fuse3"; exit 1; }; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends fuse3

# Beside what others are today, by the package index: locks of the most used packages, values of agent frameworks.
test-wide: tools .venv-test/kitaru
	@$(CLEAN) KITARU_TEST_WHEEL=1 KITARU_WIDE=1 $(TEST)/pytest -n 2 --dist loadfile $(OPTIONS) tests/wide

# Environments. The wheel is what is tested and shown, never the source folders.
.venv-%/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Kitaru needs Python 3.11 or newer, and $(PYTHON) is older: make PYTHON=python3.13 $(MAKECMDGOALS)"; exit 1; }
	@rm -rf .venv-$*
	@echo "setting up .venv-$*"
	@$(CLEAN) $(PYTHON) -m venv .venv-$* || { rm -rf .venv-$*; \
	  echo "$(PYTHON) cannot make environments: apt-get install -y python3-venv"; exit 1; }
	@$(CLEAN) .venv-$*/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.12.11'
	@touch $@

.venv-test/tools: .venv-test/uv tests/requirements.txt
	@$(CLEAN) $(TEST)/uv pip install --quiet --python $(TEST)/python --requirements tests/requirements.txt
	@touch $@

.venv-test/kitaru: .venv-test/tools
.venv-demo/kitaru: .venv-demo/uv
.venv-%/kitaru: pyproject.toml README.md LICENSE .cache/sources $(SOURCES)
	@rm -rf .venv-$*/wheel
	@$(CLEAN) .venv-$*/bin/uv build --quiet --wheel --python .venv-$*/bin/python --out-dir .venv-$*/wheel .
	@$(CLEAN) .venv-$*/bin/uv pip install --quiet --python .venv-$*/bin/python --reinstall-package kitaru .venv-$*/wheel/*.whl
	@touch $@

# A file that went away is a change too.
.cache/sources: FORCE
	@mkdir -p .cache
	@echo '$(SOURCES)' | cmp -s - $@ || echo '$(SOURCES)' > $@

# Names no index, and holds for every Python that is tested.
lock: .venv-test/uv
	@$(CLEAN) $(TEST)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-annotate --no-header \
	  --python-version 3.11 --group dev pyproject.toml --output-file tests/requirements.txt

clean:
	@chmod -R u+w .demo 2>/dev/null || true
	rm -rf .demo .venv-demo .venv-test .cache .work dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
