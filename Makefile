# snnc: `make demo` shows what it does, `make test` checks everything. Both make their own .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint .ci/constraints.txt
JOBS ?= 2

# One thread per process: the tests run in $(JOBS) processes, and more threads than cores are slower, not faster.
export OMP_NUM_THREADS := 1
export PYTHONHASHSEED := 0

.DEFAULT_GOAL := help
.PHONY: help demo test lint coverage exchange slow docs wheel clean

help: ## list the targets
	@grep -E "^[a-z]+:.*##" $(MAKEFILE_LIST) | sed -E "s/:[^#]*## */: /"

$(VENV)/core: pyproject.toml .ci/constraints.txt
	@echo "Making $(VENV) with $(PYTHON) and installing snnc (no torch) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "snnc needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --editable .
	@touch $@

$(VENV)/full: $(VENV)/core
	@echo "Installing the test tools and torch ..."
	@$(PIP) hatchling --editable '.[test,torch,docs]'
	@touch $@

# norse is under the LGPL: tests run it as a program of its own on files that snnc wrote. It is no dependency, and
# nothing imports it.
$(VENV)/norse: $(VENV)/full
	@echo "Installing norse (LGPL) into a folder of its own, for the test that lets it read NIR ..."
	@$(PIP) --upgrade --target $@ --no-deps norse nirtorch && touch $@ \
		|| { rm -rf $@; echo "norse could not be installed: the test in which it reads NIR will be skipped"; }

demo: $(VENV)/core ## convert a trained network, run it in three ways, verify and measure it; DEMO=ge2mst: a transformer
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh $(DEMO)

lint: $(VENV)/full ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint $(VENV)/norse ## lint, then every test that is not marked slow
	$(BIN)/python -m pytest --numprocesses $(JOBS) $(PYTEST)

coverage: $(VENV)/norse ## branches of the core that the tests run; fails below 95 %
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest --numprocesses $(JOBS) $(PYTEST)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --fail-under=95

exchange: $(VENV)/norse ## let norse, an independent reader of NIR, execute what snnc exports; prints the difference
	$(BIN)/python benchmarks/exchange.py

slow: $(VENV)/full ## the tests that take minutes: full test sets; PYTEST="-k name" selects
	$(BIN)/python -m pytest -m slow $(PYTEST)

# -W: a warning is an error. The build fails too if a notebook does, or if a page would load anything from elsewhere.
docs: $(VENV)/full ## the documentation as a site: out/site/index.html
	$(BIN)/python -m sphinx -W --keep-going -q -d out/doctrees docs out/site

# Not editable and outside of the checkout, as a user has it; nothing but snnc may reach site-packages.
wheel: ## install the package into a fresh environment and use it there
	rm -rf out/wheel && $(PYTHON) -m venv out/wheel
	out/wheel/bin/python -m pip --disable-pip-version-check install --quiet --constraint .ci/constraints.txt .
	cd out && wheel/bin/snnc --version && wheel/bin/snnc inspect ../examples/models/fashion_cnn_t4g2.onnx > /dev/null
	out/wheel/bin/python -c 'from importlib.metadata import files; \
		tops = sorted({f.parts[0] for f in files("snnc")} - {".."}); \
		print("site-packages:", *tops); \
		assert all(top == "snnc" or top.startswith("snnc-") for top in tops)'
	cd out && wheel/bin/python -c 'import shutil; from snnc.runtimes import ort; \
		print("native operators:", ort.native_library() or ort.native_problem()); \
		assert ort.native_library() is not None or shutil.which("c++") is None'

clean: ## remove .venv and everything made by a run
	rm -rf $(VENV) out .mypy_cache .pytest_cache .ruff_cache .hypothesis
