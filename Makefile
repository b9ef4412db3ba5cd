# Two commands: `make demo` and `make test`. Each sets up what it needs, once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Byte code is written once, by what is imported, and not for all that is installed.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-lowest lint docs clean

demo: $(VENV)/train.stamp
	$(BIN)/fqbench demo

test: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal  # one thread a worker: OpenMP threads of two workers would spin against each other
	$(BIN)/fqbench demo --debug --workspace "$$(mktemp -d)"
	$(BIN)/fqbench study run studies/debug.yaml --debug --workspace "$$(mktemp -d)"

# The base install, without torch, with the lowest declared versions. Tests that hide torch are left out: scipy 1.14 stumbles over that.
LOWEST := build/lowest
test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable . 'pytest>=9' 'hypothesis>=6.130'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -m "not slow" -k "not without_torch" tests/contracts tests/data tests/fairness tests/quant tests/report tests/test_cli.py tests/test_config.py tests/test_workspace.py

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/dev.stamp
	$(BIN)/python docs/generate.py

$(VENV)/train.stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[train]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/train.stamp
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[train,dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
