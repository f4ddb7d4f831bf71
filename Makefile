# Every command sets up what it needs; see `make help`. Paths are relative to this folder, whose own
# path may hold spaces.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
BOOK := $(VENV)/bin/jupyter-book build . -n -W --keep-going
PYTEST := $(PY) -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout 500
TWO := -n 2 --dist loadscope --no-loadscope-reorder
NOTEBOOKS := $(sort $(wildcard chapters/*.ipynb))
TESTS ?= tests
QUICK := -m "not site and not slow"
# CHAPTER=04, 4, 04_dropout and ten_seeds are names of one notebook.
NAMED := $(wildcard $(foreach form,% %_* 0%_*,$(CHAPTER:%=chapters/$(form).ipynb)))
# One `make` at a time does what follows this; others wait.
ALONE = mkdir -p _build && "$(or $(wildcard $(PY)),$(PYTHON))" -c 'import fcntl, os, sys; \
  lock = os.open("_build/.lock", os.O_CREAT | os.O_RDWR); os.set_inheritable(lock, True); \
  fcntl.flock(lock, fcntl.LOCK_EX); os.execvp(sys.argv[1], sys.argv[1:])'
export TF_CPP_MIN_LOG_LEVEL := 3
export PYDEVD_DISABLE_FILE_VALIDATION := 1
# Notebooks run in a folder of their own: a relative path is meant from here.
ifneq ($(filter-out /%,$(firstword $(value MNIST_NPZ))),)
override MNIST_NPZ := $(CURDIR)/$(value MNIST_NPZ)
export MNIST_NPZ
endif

.PHONY: help book pdf epub test slow check units lab refresh sweep audit mutants alarms bench serve address clean named
.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

ifdef SET_UP
$(READY): requirements.txt pyproject.toml
	"$(PYTHON)" -m venv $(VENV)
	$(PY) -m pip install --disable-pip-version-check -r requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
else
$(READY): requirements.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is not one of them:" \
	         "install one and name it, as in: make PYTHON=python3.12 book"; exit 1; }
	@"$(PYTHON)" -c 'import platform, sys; \
	  sys.exit((sys.platform, platform.machine()) == ("darwin", "x86_64"))' || \
	  { echo "TensorFlow has no package for Macs with an Intel processor: run the chapters on" \
	         "Binder (see README.md) or on another machine, or, if this Mac has an Apple chip," \
	         "name a Python made for it, as in: make PYTHON=/opt/homebrew/bin/python3.12 book"; \
	    exit 1; }
	@"$(PYTHON)" -c 'import shutil, sys; sys.exit(shutil.disk_usage(".").free < 4e9)' || \
	  { echo "Less than 4 GB are free here, and the environment takes 3: make room, or put the book" \
	         "on another disk."; exit 1; }
	@echo "Setting up $(VENV), once: about 800 MB are fetched. If it is interrupted, run it again."
	@$(ALONE) $(MAKE) --no-print-directory SET_UP=1 $@
endif

book: $(READY) ## build the site in _build/html (environment included)
	@$(ALONE) $(BOOK)
	@echo "$(CURDIR)/_build/html/index.html"

pdf: $(READY) ## print the whole book as _build/regularization.pdf (needs Chromium)
	@$(ALONE) $(PY) -m tools.pdf

epub: $(READY) ## write the whole book as _build/regularization.epub
	@$(ALONE) $(PY) -m tools.epub

test: $(READY) ## re-execute every chapter and check every claim
	$(PY) -m ruff check . && $(PY) -m ruff format --check .
	$(PYTEST) $(TESTS) $(NOTEBOOKS) $(QUICK) $(TWO)

slow: $(READY) ## look at every page in a browser, train stored results anew (ten minutes; CI does it, too)
	@mkdir -p _build && site=$$(mktemp -d _build/test.XXXXXX) && trap 'rm -rf "$$site"' EXIT INT; \
	$(ALONE) sh -c '$(BOOK) && cp -R _build/html "$$0"' "$$site" && \
	BOOK_SITE="$$site/html" $(PYTEST) $(TESTS) -m "site or slow" $(TWO)

check: named $(READY) ## check one chapter (style, structure, claims): make check CHAPTER=04
	$(PY) -m ruff check utils tools $(NAMED) && $(PY) -m ruff format --check utils tools $(NAMED)
	$(PYTEST) tests $(QUICK) $(NAMED) -k $(basename $(notdir $(NAMED))) $(TWO)

named:
	@$(if $(filter 1,$(words $(NAMED))),:,$(info No single chapter is called "$(CHAPTER)": \
	  say CHAPTER= and one of $(basename $(notdir $(NOTEBOOKS))).)exit 1)

units: $(READY) ## the quick tests, and no chapter
	$(PYTEST) tests $(QUICK) $(TWO)

lab: $(READY) ## open the chapters in JupyterLab
	$(PY) -m jupyterlab chapters

refresh: $(READY) ## re-execute the chapters and store their outputs (needs the full MNIST)
	$(PY) -m tools.refresh $(NOTEBOOKS)

sweep: $(READY) ## train what is missing of the protocol's map (hours; it can be ended and goes on)
	$(PY) -m tools.sweep search && $(PY) -m tools.sweep map

audit: $(READY) ## recompute from the results what their protocol promises
	$(PY) -m tools.audit

mutants: $(READY) ## sabotage each chapter in turn, and see which claims notice (half an hour; it can be ended and goes on)
	$(PY) -m tools.mutants

alarms: $(READY) ## run each chapter with other seeds, and see how near its claims come to failing (hours; it goes on)
	$(PY) -m tools.alarms

bench: $(READY) ## time train_seeds against fit and, where installed, PyTorch, scikit-learn, JAX
	$(PY) -m tools.bench

serve: book ## show the built site on http://localhost:8000
	$(PY) -m http.server --bind 127.0.0.1 --directory _build/html 8000

address: $(READY) ## write the repository's address where it is needed: make address REPOSITORY=https://…
	$(PY) -m tools.address "$(REPOSITORY)"

clean: ## remove the environment and the built site
	rm -rf $(VENV) _build *.egg-info .pytest_cache .ruff_cache
