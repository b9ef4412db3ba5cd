# Two commands: `make demo` and `make test`. Each sets up what it needs, once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Byte code is written once, by what is imported, and not for all that is installed.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-base test-lowest lint docs clean

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

# The base install, without torch: with the lowest declared versions, or with the newest (PYTHON=python3.13 tries another Python). Tests that
# hide torch are left out: scipy 1.14 stumbles over that.
BASE := tests/calib tests/contracts tests/data tests/fairness tests/latency tests/quant tests/report tests/stages/test_named.py tests/test_cli.py \
	tests/test_config.py tests/test_gate.py tests/test_storage.py tests/test_workspace.py
test-lowest: RESOLUTION := lowest-direct
test-base: RESOLUTION := highest
test-lowest test-base:
	$(PYTHON) -m venv --clear build/$@
	build/$@/bin/python -m pip install --quiet uv
	build/$@/bin/uv pip install --quiet --python build/$@/bin/python --resolution $(RESOLUTION) --editable . 'pytest>=9' 'hypothesis>=6.130' 'statsmodels>=0.14.4'
	OMP_NUM_THREADS=1 build/$@/bin/python -m pytest -m "not slow" -k "not without_torch" $(BASE)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/dev.stamp
	$(BIN)/python docs/generate.py

# pip 25 installs in two thirds of the time of Python 3.11's own; 26 prints setuptools' remarks, even with --quiet.
$(VENV)/train.stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile 'pip>=25,<26'
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[train]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/train.stamp
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[train,dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
