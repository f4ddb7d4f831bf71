# Every command sets up what it needs; see `make help`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CHAPTERS := $(sort $(wildcard chapters/*.ipynb))
TESTS ?= tests
export TF_CPP_MIN_LOG_LEVEL := 3
export PYDEVD_DISABLE_FILE_VALIDATION := 1
ifneq ($(strip $(MNIST_NPZ)),)
export MNIST_NPZ := $(abspath $(MNIST_NPZ))
endif

.PHONY: help book test lab refresh sweep mutants alarms bench serve clean
.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is not one of them:" \
	         "install one and name it, as in: make PYTHON=python3.12 book"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

book: $(READY) ## build the site in _build/html (environment included)
	$(BIN)/jupyter-book build . -n -W --keep-going
	@echo "$(CURDIR)/_build/html/index.html"

test: book ## re-execute every chapter and check every claim
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/python -m pytest $(TESTS) $(CHAPTERS) --nbval-lax --nbval-current-env -n 2 --dist loadscope

lab: $(READY) ## open the chapters in JupyterLab
	$(BIN)/jupyter lab chapters

refresh: $(READY) ## re-execute the chapters and store their outputs (needs the full MNIST)
	$(BIN)/python tests/refresh.py $(CHAPTERS)

sweep: $(READY) ## train what is missing of the grid behind chapters 7 to 10 (hours; it can be ended and goes on)
	$(BIN)/python -m utils.sweep && $(BIN)/python -m utils.sweep --article

mutants: $(READY) ## sabotage each chapter in turn, and see which claims notice (half an hour; it can be ended and goes on)
	$(BIN)/python tests/mutants.py

alarms: $(READY) ## run each chapter with other seeds, and see how near its claims come to failing (hours; it goes on)
	$(BIN)/python tests/false_alarms.py

bench: $(READY) ## time train_seeds against fit and, where installed, PyTorch, scikit-learn, JAX
	$(BIN)/python benchmarks/bench.py

serve: book ## show the built site on http://localhost:8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

clean: ## remove the environment and the built site
	rm -rf $(VENV) _build *.egg-info .pytest_cache .ruff_cache
