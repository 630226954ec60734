# make demo, make test, make test-s3-ceph, make lint, make bench, make chaos, make simulate. All of them make what they
# need in $(VENV) first.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
SEEDS ?= 1 2 3
BIN := $(VENV)/bin

.PHONY: demo test chaos simulate test-s3-ceph lint bench clean

demo: $(VENV)/.installed
	$(BIN)/python -m jobs.embed conf/embed/demo.yaml sink.uri=$(DEMO)
	@echo
	$(BIN)/python docs/reading/with_pandas.py $(DEMO)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest tests/unit tests/contract tests/integration tests/e2e

# The S3 tests against a real store: Ceph's gateway, from Debian's packages (root installs them, 400 MB).
test-s3-ceph: $(VENV)/.installed-test
	$(BIN)/python -m tests.ceph

# Processes and nodes killed at seeded moments, on files and on S3; its last line is a summary.
chaos: $(VENV)/.installed-test
	$(BIN)/python -m tests.chaos $(SEEDS)

# The commit code alone, some hundred seeds a minute: make simulate SEEDS=1-10000
simulate: $(VENV)/.installed-test
	$(BIN)/python -m tests.chaos.simulate $(SEEDS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.embed
	$(BIN)/python -m benchmarks.encoder --quick

clean:
	rm -rf demo build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# Stamps: pip runs again only when pyproject.toml has changed since.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV), some minutes the first time"
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) with what the tests need, some minutes the first time"
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "w2vb_ray needs Python 3.11 or newer, but $(PYTHON) is none; try: make $(MAKECMDGOALS) PYTHON=python3.11"; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
