# make demo    run the whole chain on a small generated data set; prints a table, draws a plot
# make quick   run the fast tests, in under 90 seconds: for use while you work
# make test    run every check that CI runs: format, lint, types, import layers, all tests
# Each creates a virtual environment first. Set PYTHON to use another interpreter (3.11 or later).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PYTEST := $(BIN)/python -m pytest --numprocesses 3 --dist worksteal
# Other versions of DuckDB, which must be able to read a database that the pinned one wrote.
DUCKDBS := 1.4.5 2.0.1
SOURCES := pyproject.toml constraints.txt

.PHONY: install demo quick test lint clean

# What `make demo` needs: the pipeline and the trainer.
$(VENV)/.train: $(SOURCES)
	$(PYTHON) -c 'import sys; sys.exit("fsckit needs Python 3.11 or later, not " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) --editable '.[train]'
	touch $@

# What a developer needs: every extra that the tests use.
$(VENV)/.dev: $(VENV)/.train
	$(PIP) --editable '.[train,lexicon,download,ray,spark,dev]'
	for version in $(DUCKDBS); do $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --upgrade --target $(VENV)/duckdb/$$version duckdb==$$version || exit 1; done
	touch $@

install: $(VENV)/.dev

demo: $(VENV)/.train
	$(BIN)/python demo/run.py $(DEMO)

quick: $(VENV)/.dev
	$(BIN)/ruff check
	$(PYTEST) -m 'not slow'

test: lint
	$(PYTEST)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) demo/out
