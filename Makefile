# Everything below runs in environments of its own, made on first use: nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv)

# Without an NVIDIA driver PyTorch comes from here, without 4 GB of CUDA; where this place does not answer, from the index.
CPU_TORCH := https://download.pytorch.org/whl/cpu
ON_CPU = ! command -v nvidia-smi >/dev/null && \
	$(PYTHON) -c "from urllib.request import urlopen; urlopen('$(CPU_TORCH)/torch/', timeout=5)" 2>/dev/null

# Tests of what other libraries do for this one, and only those: they are run at the oldest versions that are allowed.
INTERFACES := tests/models/test_backbone.py tests/models/test_deployment.py tests/deployment tests/networks/building tests/runs \
	tests/tasks/test_metrics.py tests/training/test_optimisation.py tests/training/test_loggers.py \
	tests/training/test_callbacks.py tests/training/test_depthwise.py tests/training/test_few_outputs.py \
	tests/training/test_faster_convolutions.py tests/data/readers/test_parquet.py \
	tests/data/readers/test_hub.py tests/data/test_twins.py tests/test_recipes.py tests/test_own_code.py \
	tests/comparisons/test_formats.py tests/reporting/test_figures.py

.PHONY: setup demo test gpu oldest lint docs bench clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@echo "Installing PyTorch and friends (0.2 to 4 GB, a few minutes the first time) ..."
ifeq ($(UV),)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	if $(ON_CPU); then $(BIN)/pip install --quiet --index-url $(CPU_TORCH) torch torchvision; fi
	$(BIN)/pip install --quiet --editable '.[dev]'
else
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	if $(ON_CPU); then export UV_TORCH_BACKEND=cpu; fi; \
		$(UV) pip install --quiet --python $(VENV) --editable '.[dev]'
endif
	@touch $@

demo: setup  ## train a small network with MCL-OKD on handwritten digits and write its report
	rm -rf runs/demo
	$(BIN)/classmates train --config recipes/demo.yaml --out runs/demo

test: setup  ## the whole test suite
	$(BIN)/python -m pytest

gpu: setup  ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

oldest: .venv-oldest/.installed  ## what other libraries do for this one, at the oldest versions that are allowed
	.venv-oldest/bin/python -m pytest $(INTERFACES)

.venv-oldest/.installed: pyproject.toml | setup
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-oldest
	if $(ON_CPU); then export UV_TORCH_BACKEND=cpu; fi; \
		$(BIN)/uv pip install --quiet --python .venv-oldest --resolution lowest-direct --editable '.[dev]'
	@touch $@

lint: setup  ## style, types, which part may import which, and what is a dependency
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

docs: setup  ## the documentation site, in build/docs; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs . build/docs

bench: setup  ## speed and memory of everything, on a machine that does nothing else
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .venv-oldest
