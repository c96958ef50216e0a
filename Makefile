# Everything below runs in an environment of its own, made on first use: nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint docs bench clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	@echo "Installing PyTorch and friends (a few GB, a few minutes the first time) ..."
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

demo: setup  ## train a small network with MCL-OKD on handwritten digits and write its report
	rm -rf runs/demo
	$(BIN)/classmates train --config recipes/demo.yaml --out runs/demo

test: setup  ## the whole test suite
	$(BIN)/python -m pytest

lint: setup  ## style, types, and which part may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup  ## the documentation site, in build/docs; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs . build/docs

bench: setup  ## speed and memory of everything, on a machine that does nothing else
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV)
