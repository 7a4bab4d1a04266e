# Everything here needs only Python >= 3.11 (with venv) and make. `make help` lists the targets.

PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3.14 python3 python; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := .refute/demo/$(shell date -u +%Y%m%dT%H%M%SZ)

.DEFAULT_GOAL := help
.PHONY: help setup demo test browser lint check wheel clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-8s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## create .venv and install refute with its development tools

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 with venv found; name one: make PYTHON=/path/to/python3" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/python -m compileall -q falsifiers runtime  # also where Python is told to write no bytecode
	@touch $(STAMP)

demo: $(STAMP) ## attack the bundled contracts on the embedded model, then ask the gate
	@echo '$$ refute run -n 2 --evidence $(DEMO)'
	@env -u QWEN3_MOE_GGUF_PATH $(BIN)/refute run -n 2 --evidence $(DEMO)
	@echo
	@echo '$$ refute gate --profile pr --evidence $(DEMO)'
	@env -u QWEN3_MOE_GGUF_PATH $(BIN)/refute gate --profile pr --evidence $(DEMO)

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --timeout=300 -q

browser: ## install Chromium and its driver (Debian, Ubuntu), for the tests of the report that need them
	@command -v apt-get >/dev/null || { echo "make: install chromium and chromedriver by the means of this system" >&2; exit 2; }
	apt-get update
	DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium chromium-driver fonts-dejavu-core

lint: $(STAMP) ## check style, format, types and the contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/refute lint

wheel: $(STAMP) ## build the wheel, check its contents, run the tests that use it whole
	$(BIN)/python .ci/wheel.py

check: lint wheel ## everything that CI checks besides the tests and the demo

clean: ## remove the environment and everything built
	rm -rf $(VENV) .refute build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
