# Two commands: `make demo` and `make test`. Each sets up what it needs, once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint docs clean

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
