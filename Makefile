# make reproduce   set up, run the smoke pipeline, check it, write results/report.html
# make test        set up, run the whole test-suite
# make mutants     set up, do the tests notice small wrong changes? (tests/mutants; hours)
# make proxy       set up, the proxy pipeline on real data (needs a data root, see README.md)
# make bench       set up, time all workloads and how costs grow (about eight minutes of a quiet machine), write docs/speed.md
# make reliability kill, stop, starve and damage every command (hours); MOMENTS=20 faults each; results/reliability.json
# make lint        style, types, import layers, generated tables
# make docs        the documentation as a static site, site/index.html
# make lock        bring the locks up to date with pyproject.toml (needs uv)
SHELL := /bin/bash
.SHELLFLAGS := -uo pipefail -c
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
TORCH ?= cpu
LOCKS := requirements.lock requirements-cpu.lock requirements-cuda.lock
WORKERS ?= 2
MOMENTS ?= 20
TESTS ?= tests
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export PYTHONHASHSEED := 0
export MPLBACKEND := Agg
# one thread per process: small networks gain nothing from two, and two contending processes lose a lot
export OMP_NUM_THREADS ?= 1

.PHONY: reproduce lane-1 lane-2 claims test reliability mutants bench proxy lint lock venv report docs clean
.DEFAULT_GOAL := reproduce

# Two lanes of about equal length where there are two cores (LANES=1: one stage after another), and the claims that only
# the code decides beside them. The last command does what they left: a stage that failed or was killed, a new paper's.
LANES ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
LANE_1 := evaluate@sgnas-0 evaluate@evnas-0 search_nb201_evnas@0
LANE_2 := evaluate@nsas-0 search_nb201@0 train_ptb@0 evaluate@cream-0 evaluate@nao_v2-0

reproduce: venv
	@if [ $(LANES) -gt 1 ]; then $(MAKE) --no-print-directory -k -j3 lane-1 lane-2 claims || true; fi
	dvc repro dvc.yaml; status=$$?; $(PY) -m reproductions report; $(PY) -m reproductions plots --quiet || true; \
	git diff --quiet HEAD -- dvc.lock || echo "dvc.lock changed: it holds this machine's results now; docs/dvc.md says why, and how to go back"; \
	exit $$status

lane-1 lane-2: lane-%:
	dvc --wait-for-lock repro $(LANE_$*)

claims:
	@$(PY) -m reproductions claims >/dev/null

# -k: a set that is absent fails in its own stage, the rest carries on; the report says what is missing.
proxy: venv
	dvc repro -k reproductions/proxy/dvc.yaml; status=$$?; $(PY) -m reproductions report; exit $$status

test: venv
	$(PY) -m pytest -n $(WORKERS) --dist loadfile -q --durations=15 $(TESTS)

# MUTANTS="evnas common/clip-off": some areas or changes only
MUTANTS ?=
mutants: venv
	$(PY) -m tests.mutants $(MUTANTS)

# Times are of one thread and of the process; steps in several processes are of the wall, so nothing else should run.
BENCH := results/scratch/bench.json
bench: venv
	@mkdir -p $(dir $(BENCH))
	$(PY) -m pytest tests/benchmarks/test_workloads.py tests/benchmarks/test_growth.py -q -p no:cacheprovider \
	  --benchmark-enable --benchmark-quiet --benchmark-json=$(BENCH) -k "workload or curve or processes or scale"
	$(PY) -m reproductions bench $(BENCH)
	$(PY) -m reproductions readme

reliability: venv
	$(PY) -m tests.reliability.proof --moments $(MOMENTS); status=$$?; $(PY) -m reproductions readme; exit $$status

lint: venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) -m reproductions readme --check

report: venv
	$(PY) -m reproductions report

docs: venv
	$(PY) -m reproductions docs

# The environment is rebuilt only when the content of a lock changes. The CPU-only build of torch is preferred where pip
# finds it; the CUDA build (what PyPI serves for Linux) needs the packages of requirements-cuda.lock besides. PyPI's
# torchvision does not import beside the CPU-only torch by itself: common/data/pictures/vision.py says why and mends it.
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps
IS_CUDA := import platform, sys; from importlib.metadata import version; \
  sys.exit(platform.system() != "Linux" or "+cpu" in version("torch"))
venv:
	@set -e; if cmp -s <(cat $(LOCKS)) $(VENV)/installed.lock; then exit 0; fi; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed; name one: make PYTHON=python3.12" >&2; exit 2; }; \
	echo "setting up $(VENV) from the locked requirements"; \
	$(PYTHON) -m venv --clear $(VENV); \
	if [ "$(TORCH)" = cpu ]; then $(PIP) -r requirements-cpu.lock >/dev/null 2>&1 || true; fi; \
	$(PIP) -r requirements.lock 2> >(grep -v "is ignored: it is neither" >&2); \
	if $(PY) -c '$(IS_CUDA)'; then $(PIP) -r requirements-cuda.lock 2> >(grep -v "is ignored: it is neither" >&2); fi; \
	$(PY) -c 'import torchvision' 2>/dev/null || { \
	  site=$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	  cp common/data/pictures/vision.py "$$site/vision_watch.py"; \
	  echo 'import vision_watch; vision_watch.watch()' > "$$site/vision_watch.pth"; }; \
	cat $(LOCKS) > $(VENV)/installed.lock

# Versions stay as they are where pyproject.toml allows them; make lock UPGRADE="--upgrade-package dvc" moves one, UPGRADE=--upgrade all.
# torch 2.13.0 is the version the golden values were checked with; another one also needs its hash in requirements-cpu.lock.
UPGRADE ?=
lock:
	@set -e; command -v uv >/dev/null || { echo "error: make lock needs uv: pip install uv" >&2; exit 2; }; \
	new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; \
	cat requirements.lock requirements-cuda.lock > "$$new/all"; \
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --quiet $(UPGRADE) -o "$$new/all"; \
	torch=$$(sed -n 's/^torch==\([^ +]*\).*/\1/p' requirements-cpu.lock); \
	grep -q "^torch==$$torch " "$$new/all" || \
	  { echo "error: requirements-cpu.lock has torch $$torch; put the new version and the hash of its CPU-only wheel there first" >&2; exit 2; }; \
	for lock in requirements requirements-cuda; do sed '/^[^#]/,$$d' $$lock.lock > "$$new/$$lock.lock"; done; \
	awk -v new="$$new/" '/^[^ ]/ { lock = /^(cuda-|nvidia-|triton)/ ? "requirements-cuda.lock" : "requirements.lock" } { print >> (new lock) }' "$$new/all"; \
	cp "$$new/requirements.lock" "$$new/requirements-cuda.lock" .; git --no-pager diff --stat -- $(LOCKS)

clean:
	rm -rf results/smoke results/scratch results/report.html
