# Every line here is a command that could be typed by hand. `make help` lists them.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup shell run test check format assets voices bench bench-studio clean recorded

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 16

setup: .venv/.stamp ## make the environment in .venv

shell: setup ## open a shell in which manifold is found; exit leaves it
	@. $(BIN)/activate && echo "manifold --help lists the commands; exit leaves this shell." && exec $${SHELL:-/bin/sh}

run: setup ## open the studio on http://127.0.0.1:8501; the first time, run the quick start in it
	$(BIN)/manifold serve

test: check ## check, then run the tests; the browser's too
	@command -v chromium >/dev/null || echo "The browser tests need Chromium, and will fail: apt-get install chromium"
	@command -v pdflatex >/dev/null || echo "The tables in LaTeX are not compiled: apt-get install texlive-latex-base"
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --cov --cov-report=term

check: setup ## format, lint, types and import contracts, without the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup ## put the code in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

assets: setup ## take the documentation's pictures, of the example that comes with the project
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "" tests/browser/test_pictures.py --pictures assets

# In an environment of its own: what renders speech is not among what the project needs.
voices: ## render the speech of assets/voices again: an hour of one core's time
	$(PYTHON) assets/voices/make.py

# Without what it depends on: its kernels for GPUs need triton, the loss that is compared does not.
bench: setup ## what training costs beside other loops, against the goals; QUICK=1 in short, DEVICE=cuda on a GPU
	@$(BIN)/pip install -qq --no-deps -c constraints.txt liger-kernel || echo "Liger's loss is left out."
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(DEVICE),--device $(DEVICE))

bench-studio: setup ## how quick pages are with 1,000 runs and a map of 20,000 points, in Chromium
	$(BIN)/python -m benchmarks.many_runs
	$(BIN)/python -m benchmarks.map_click

clean: ## remove .venv and what tools left; experiments.db and runs/ stay
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage*

# torch goes first and pinned, so that no other package's wish for it brings a second build of several gigabytes.
.venv/.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name it: make setup PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making .venv with $(PYTHON): two minutes when the packages are cached."
	@$(PYTHON) -m venv .venv
	@echo "  PyTorch (190 MB, or several GB where the package index serves its CUDA build)"
	@$(BIN)/pip install -qq -c constraints.txt torch
	@echo "  115 other packages (700 MB)"
	@$(BIN)/pip install -qq -c constraints.txt -e '.[offline,dev]'
	@$(MAKE) --no-print-directory recorded
	@touch $@

# Speech of real people, which the quick start tests besides generated speech. It does without what cannot be had.
recorded:
	@echo "  Recorded speech (45 MB)"
	@$(BIN)/manifold data get asterisk-en recorded || true
