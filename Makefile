# Two commands do everything on a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
OUT ?= runs/demo
PHOTOS ?=
ARGS ?=
BIN := $(VENV)/bin
# Only for apt-get, and not where it is missing because everything is root's, as in containers.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# verifiers and openenv want different versions of mcp.
VERIFIERS := $(VENV)-verifiers
# Torch and numba are fastest here with one thread per process; Ray starts its own processes.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo '  Options: PHOTOS="DIR [DIR ...]" train the demo on your own photos; OUT=DIR where the demo writes;'
	@echo '           ARGS="..." more options of retouch-gym demo or pytest; PYTHON=python3.12 another interpreter'

.PHONY: demo
demo: $(VENV)/.ready ## Train and evaluate a tiny agent from nothing (about 15 minutes on 2 cores)
	$(BIN)/retouch-gym demo --out "$(OUT)" $(foreach dir,$(PHOTOS),--photos "$(dir)") $(ARGS)

.PHONY: test
test: check test-verifiers ## Lint, types, import contracts and the whole test suite

.PHONY: check
check: $(VENV)/.ready ## The same without the adapter for verifiers, which needs an environment of its own
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest $(ARGS)

.PHONY: test-verifiers
test-verifiers: $(VERIFIERS)/.ready ## Test the adapter for verifiers in its own small environment
	$(VERIFIERS)/bin/python -c "import verifiers.v1"  # its tests skip where it is missing
	$(VERIFIERS)/bin/python -m pytest tests/adapters/test_verifiers.py tests/adapters/test_rollout.py

.PHONY: engines
engines: ## Install the programs that renderers can use: RawTherapee and darktable (Debian, Ubuntu)
	@command -v rawtherapee-cli >/dev/null && command -v darktable-cli >/dev/null || $(SUDO) apt-get install -y --no-install-recommends rawtherapee darktable
	@command -v rawtherapee-cli darktable-cli

.PHONY: setup
setup: $(VENV)/.ready ## Only set up the virtual environment

# verifiers is not among them: see above.
EXTRAS := agents,reward-models,sb3,trl,openenv,recording,dev

$(VERIFIERS)/.ready: pyproject.toml scripts/check_prerequisites.py
	@"$(PYTHON)" scripts/check_prerequisites.py
	@echo "Setting up $(VERIFIERS) (once) ..."
	"$(PYTHON)" -m venv $(VERIFIERS)
	$(VERIFIERS)/bin/python -m pip install --progress-bar on -e ".[verifiers]" "pytest>=8.4" "pytest-timeout>=2.4" "hypothesis>=6.150"
	@touch $@

# The marker is written last, so an interrupted installation is simply taken up again.
$(VENV)/.ready: pyproject.toml scripts/check_prerequisites.py
	@command -v "$(PYTHON)" >/dev/null || { echo "'$(PYTHON)' is not there; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" scripts/check_prerequisites.py
	@echo "Setting up $(VENV) (once; several minutes, 2 GB, or more where pip has only the CUDA build of PyTorch) ..."
	"$(PYTHON)" -m venv $(VENV)
	@echo "[1/3] PyTorch (CPU)"
	$(BIN)/python -m pip install --progress-bar on "torch==2.13.0"
	@echo "[2/3] retouch-gym and its dependencies"
	$(BIN)/python -m pip install --progress-bar on -e ".[$(EXTRAS)]"
	@echo "[3/3] Compiling bytecode"
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true
	@touch $@

.PHONY: clean
clean: ## Remove the virtual environment and caches (runs/ stays)
	rm -rf $(VENV) $(VERIFIERS) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
