# Two commands do all their own set-up: `make report MODEL=7b` and `make test`.
# Everything runs in a virtual environment that is made once and again whenever what it is made of changes.

PYTHON ?= python3
VENV   ?= .venv
MODEL  ?= 7b
DEVICE ?= auto
OUT    ?=
FULL   ?=
FROM   ?=
# Where to get torch from, if not the default index: PyTorch publishes smaller CPU-only builds on an index of its own.
TORCH_INDEX ?=
TRACES ?= traces
BASE   ?= auto
QUICK  ?=
RUNS   ?=

BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup report example test families machines cuda-fake kernels course lint docs bench bench-compare bench-ab accuracy tensorboard clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables: MODEL=7b|13b|70b|tiny|PATH.json  DEVICE=auto|cpu|cuda  OUT=path.html  FULL=1"
	@echo "             BASE=revision of bench-ab  QUICK=1  RUNS='0003 0007' of bench-compare"

setup: $(STAMP) ## make the virtual environment

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "llamalab needs Python 3.11 or newer; $(PYTHON) is older; name another: make PYTHON=python3.12" >&2; exit 3; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 3; }
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps --index-url $(TORCH_INDEX) torch)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m compileall -q llamalab  # a calculator must not wait for the compiler, even where Python keeps no caches
	@touch $@

report: $(STAMP) ## measure MODEL on DEVICE and write one HTML page
	@$(BIN)/llamalab report --model '$(MODEL)' --device '$(DEVICE)' $(if $(OUT),--out '$(OUT)') $(if $(FULL),--full)

example: $(STAMP) ## make the example of the README anew; FROM=record.json draws one that is there
	$(BIN)/python -m tools.example $(if $(FROM),--from '$(FROM)')

test: $(STAMP) ## run the tests, a worker for each of two processors
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# Of pytest, for tests that `make test` leaves out.
OWN_OPTIONS := --strict-markers --strict-config --showlocals --tb=short --benchmark-disable

families: $(STAMP) ## hold every family of models to its own class in transformers: parameters, FLOPs, cache
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -o addopts='$(OWN_OPTIONS)' tests/families

machines: $(STAMP) ## run what a machine unlike this one would: other caches, memory, processors, disks, Pythons
	$(BIN)/python -m pytest -n 2 --dist loadfile -o addopts='$(OWN_OPTIONS)' tests/machines

cuda-fake: $(STAMP) ## run the CUDA code on a simulated GPU
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist load -o addopts='$(OWN_OPTIONS)' tests/cuda_fake

course: $(STAMP) ## run the course: its commands, its answers, and its notebooks into build/course
	$(BIN)/python -m pytest -o addopts='$(OWN_OPTIONS)' tests/course
	$(BIN)/python -m tools.course --execute

kernels: $(STAMP) ## compile every Triton kernel for GPUs that are not here
	$(BIN)/python -m pytest -n 2 -o addopts='$(OWN_OPTIONS)' tests/kernels

lint: $(STAMP) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP) ## build the documentation as build/site
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m mkdocs build --strict

# Sets in one order, one thread, and a C library that keeps the memory it was given back.
BENCH_ENV := PYTHONHASHSEED=0 OMP_NUM_THREADS=1 \
  MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456

bench: $(STAMP) ## run the benchmarks and keep their times
	$(BENCH_ENV) $(BIN)/python -m pytest tests/benchmarks --benchmark-enable --benchmark-only --benchmark-disable-gc \
	  --benchmark-columns=median,iqr,min,rounds --benchmark-sort=fullname --benchmark-autosave

bench-compare: $(STAMP) ## show how the last two runs of make bench differ
	@$(BIN)/python -m tools.speedgate.stored $(RUNS)

bench-ab: $(STAMP) ## time this tree against BASE; fails where it is slower
	@$(BIN)/python -m tools.speedgate.ab --base '$(BASE)' $(if $(QUICK),--quick)

accuracy: $(STAMP) ## score the predictions and write docs/accuracy.md
	$(BIN)/python -m experiments.accuracy

tensorboard: $(STAMP) ## show the traces that llamalab profile --trace wrote to TRACES
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[tensorboard]'
	$(BIN)/tensorboard --logdir '$(TRACES)' --host 127.0.0.1

clean: ## remove what the other targets made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks build dist
	find llamalab tests experiments -name __pycache__ -type d -prune -exec rm -rf {} +
