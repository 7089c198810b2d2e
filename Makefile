# Two commands from a fresh clone: `make quickstart` and `make test`. Needs Python 3.11 or later; nothing else.
PYTHON ?= python3
TEST_PROCESSES ?= 2
SLOW_TEST_PROCESSES ?= 2
VENV := .venv
BIN := $(VENV)/bin
# A test beside another; `xdist_group` keeps together what shares a fixture that is dear to make. Ray's workers would wait
# for everything else, as they are nice by default.
PYTEST := OMP_NUM_THREADS=1 RAY_worker_niceness=0 $(BIN)/pytest --dist=loadgroup --durations=30 --durations-min=5
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help quickstart local-cluster test test-slow lint docs clean
.DEFAULT_GOAL := help

help:
	@echo "make quickstart   install, then search tweet-sentiment models and print the leaderboard (3 to 5 minutes)"
	@echo "make local-cluster a head and two workers on this machine, to submit searches to; Ctrl-C ends it"
	@echo "make test         install the development tools, then lint, types, layering and tests"
	@echo "make test-slow    the tests that take long: killed processes, real searches, all of search_spaces/"
	@echo "make docs         write the tables of all settings in docs/search-spaces.md again"
	@echo "make clean        remove the virtual environment, example data and runs"

quickstart: $(VENV)/.installed data/tweets/train.parquet
	$(BIN)/automl run search_spaces/tweet_sentiment.yaml

data/tweets/train.parquet: | $(VENV)/.installed
	$(BIN)/automl examples tweets --output data/tweets

local-cluster: $(VENV)/.installed-dev
	$(BIN)/python -m automl.cluster.local

test: lint
	$(PYTEST) --numprocesses=$(TEST_PROCESSES) -m 'not slow'

test-slow: $(VENV)/.installed-dev
	$(PYTEST) --numprocesses=$(SLOW_TEST_PROCESSES) -m slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed
	$(BIN)/python -m automl.space.reference docs/search-spaces.md

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "automl needs Python 3.11 or later; name one with: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing automl into $(VENV); the first time that takes minutes"
	$(INSTALL) -e '.[examples]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing automl and its tools into $(VENV); the first time that takes minutes"
	$(INSTALL) -e '.[examples,dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) data/tweets runs local-cluster
