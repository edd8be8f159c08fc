# `make sweep` and `make test` do everything on a machine with python3, make and git.
UV_VERSION := 0.13.8
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
RAY := --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "ray and not faults"
RAY_FILES = $(sort $(shell grep -rl "mark\.ray" tests --include="test_*.py"))
# Files about faults, whole; and those with tests that are too long for every run, of which `make test` runs the others.
FAULTS = tests/bad_inputs $(addprefix tests/tune_jobs/,execution/test_signals.py lifecycle/test_export_best.py search/test_cma_es.py \
  test_damaged_journals.py test_payloads.py test_signals_to_sweeps.py) $(addprefix tests/handclip_core/,data/test_manifest.py \
  data/test_pixels.py data/test_sources.py runs/test_run_folder.py test_signals.py test_signals_to_commands.py) tests/cluster/test_multi_node.py
TOO_LONG = $(filter-out tests/bad_inputs/% $(FAULTS),$(sort $(shell grep -rl "mark\.faults" tests --include="test_*.py")))
export UV_COMPILE_BYTECODE := 1

.PHONY: sweep setup check test test-with-ray test-without-ray test-cluster test-faults faults too-long bench growth clean

sweep: setup
	$(PYTHON) tune_jobs/sweep.py

setup: .venv/.ready

# What starts Ray clusters waits for processes most of the time, so that all else runs beside it, and gives way to it:
# what is heard of a process too late is taken for lost.
test: setup
	@$(MAKE) --no-print-directory --keep-going --jobs 2 test-with-ray test-without-ray

# Files in the order of their names: those that take longest, of several nodes, come first. The others are not even
# collected, which takes two processes longer than some of the tests.
test-with-ray: setup
	$(PYTEST) $(RAY) $(RAY_FILES)

test-without-ray: setup
	nice -n 10 $(PYTEST) --numprocesses 2 --dist loadfile -m "not ray and not faults"

# What needs Ray clusters: several nodes, faults, submission. All of it is part of `make test` too.
test-cluster: setup
	$(PYTEST) $(RAY) tests/cluster $(addprefix tests/tune_jobs/,test_job.py execution/test_signals.py execution/test_train_fn.py test_sweep_in_bucket.py)

# Faults on purpose: those of `make test`, and signals to whole sweeps at every moment; and all else that takes too long.
test-faults: setup
	@$(MAKE) --no-print-directory --keep-going faults too-long

faults: setup
	$(PYTEST) --numprocesses 2 --dist loadfile $(FAULTS)

too-long: setup
	$(PYTEST) --numprocesses 2 --dist loadfile -m faults $(TOO_LONG)

# Every claim of speed beside its rival or its limit, in one run of some 25 minutes on two quiet cores.
bench: setup
	$(PYTHON) -m benchmarks.bench

# How cost grows: the plots of docs/performance.md.
growth: setup
	$(UV) run --frozen --with matplotlib python -m benchmarks.growth

# Types take a minute of one core: beside tests, they give way to what waits for processes.
check: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	nice -n 10 $(PYTHON) -m mypy

clean:
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/.ready: pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen
	@touch $@

# System Pythons refuse a plain `pip install`, so uv gets a folder of its own.
.uv/bin/uv:
	@echo "fetching uv $(UV_VERSION) into .uv"
	@(python3 -m venv .uv && .uv/bin/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)) \
	  || python3 -m pip install -q --disable-pip-version-check --target .uv uv==$(UV_VERSION) \
	  || { rm -rf .uv; echo "error: python3 can make no virtual environment; install python3-venv, or uv" >&2; exit 2; }
