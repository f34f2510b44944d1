# make reproduce   set up, run the smoke pipeline, check it, write results/report.html
# make test        set up, run the whole test-suite
# make proxy       set up, the proxy pipeline on real data (needs a data root, see README.md)
# make lint        style, types, import layers, generated tables
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
LOCKS := requirements.lock requirements-cuda.lock
WORKERS ?= 2
TESTS ?= tests
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export PYTHONHASHSEED := 0
export MPLBACKEND := Agg

.PHONY: reproduce test proxy lint venv report clean
.DEFAULT_GOAL := reproduce

reproduce: venv
	dvc repro dvc.yaml
	$(PY) -m reproductions check
	$(PY) -m reproductions report

# -k: a set that is absent fails in its own stage, the rest carries on; the report says what is missing.
proxy: venv
	dvc repro -k reproductions/proxy/dvc.yaml; status=$$?; $(PY) -m reproductions report; exit $$status

test: venv
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile -q --durations=15 $(TESTS)

lint: venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) -m reproductions readme --check

report: venv
	$(PY) -m reproductions report

# The environment is rebuilt only when the content of a lock changes. Two steps, because a CPU build of torch needs no
# CUDA packages and the CUDA build (what PyPI serves for Linux) does.
venv:
	@if cmp -s <(cat $(LOCKS)) $(VENV)/installed.lock; then exit 0; fi; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed; name one: make PYTHON=python3.12 …" >&2; exit 2; }; \
	echo "setting up $(VENV) from the locked requirements"; \
	$(PYTHON) -m venv --clear $(VENV); \
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock; \
	if $(PY) -c 'from importlib.metadata import version; import sys, platform; sys.exit("+cpu" in version("torch") or platform.system() != "Linux")'; then \
	  $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-cuda.lock; fi; \
	cat $(LOCKS) > $(VENV)/installed.lock

clean:
	rm -rf results/smoke results/scratch results/report.html
