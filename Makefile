# Two commands are the whole set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
TEST_PROCESSES ?= 3

.PHONY: demo test lint format bench fuzz soak clean
.DEFAULT_GOAL := demo

# The virtual environment is remade when the dependencies change.
$(VENV)/.base: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[chat]'
	touch $@

$(VENV)/.dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(VENV)/.base $@

demo: $(VENV)/.base
	$(BIN)/python -m examples.demo
	$(BIN)/switchboard demo --any-port

# Several tests at a time, since most of them wait for processes; then those that must be alone.
test: lint
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m 'not alone'
	$(BIN)/python -m pytest -m alone

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.run

# `make test` has a short run of each; docs/reliability.md tells of the long ones. What the fuzzers
# have learnt stays in .fuzz, for the next time.
FUZZ_MINUTES ?= 60
SOAK_MINUTES ?= 10

$(VENV)/.fuzz: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,fuzz]'
	touch $(VENV)/.base $(VENV)/.dev $@

fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz --minutes $(FUZZ_MINUTES)

soak: $(VENV)/.dev
	$(BIN)/python -m tests.soak --minutes $(SOAK_MINUTES)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
