# The commands of the course. `make` alone lists them.
#
#   make book     the site, on a machine that has Python >= 3.11 and pip and nothing else
#   make test     every check
#
# PYTHON chooses the interpreter the environments are made from:  make book PYTHON=python3.12
# pip's own environment variables are respected. On Linux the default index serves torch with CUDA (several GB);
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu gives the much smaller CPU build.

SHELL = /bin/bash
.DEFAULT_GOAL = help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:

PYTHON    ?= python3
VENV      ?= .venv
BOOK_VENV ?= .venv-book
PORT      ?= 8000
NOTEBOOKS ?= $(sort $(wildcard notebooks/*.ipynb)) $(sort $(wildcard notebooks/solutions/*.ipynb))

PY      = $(VENV)/bin/python
BOOK_PY = $(BOOK_VENV)/bin/python
SITE    = _build/html
RESULTS = benchmarks/results
BENCH   = _build/bench
STAMP   = .made-by-make

# Two test processes are faster than one only if each keeps to one thread; two threads each would be four times slower.
TWO_PROCESSES = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
TWO_THREADS   = OMP_NUM_THREADS=2 MKL_NUM_THREADS=2 TQDM_DISABLE=1
NBVAL         = $(PY) -m pytest --nbval --nbval-sanitize-with tests/nbval_sanitize.cfg --nbval-cell-timeout 300 -q

# ---------------------------------------------------------------- environments

# $(call new_venv,FOLDER): a virtual environment, also where Debian has split ensurepip away but pip is there.
define new_venv
	@command -v "$(PYTHON)" > /dev/null || { \
	  echo "error: no program called '$(PYTHON)'. Install Python 3.11 or newer, or name yours: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed, '$(PYTHON)' is $$("$(PYTHON)" -c 'import platform; print(platform.python_version())')." \
	       "Name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv' 2> /dev/null || { \
	  echo "error: '$(PYTHON)' has no venv module. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	@if "$(PYTHON)" -c 'import ensurepip' 2> /dev/null; then \
	  "$(PYTHON)" -m venv "$(1)"; \
	elif "$(PYTHON)" -m pip --version > /dev/null 2>&1; then \
	  "$(PYTHON)" -m venv --without-pip "$(1)" && "$(PYTHON)" -m pip --python "$(1)/bin/python" install --quiet pip; \
	else \
	  echo "error: '$(PYTHON)' has neither ensurepip nor pip. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; \
	fi
endef

$(PY):
	$(call new_venv,$(VENV))

$(BOOK_PY):
	$(call new_venv,$(BOOK_VENV))

# Everything: the library (editable), the book, the tests.
$(VENV)/$(STAMP): pyproject.toml constraints.txt | $(PY)
	$(PY) -m pip install --quiet -c constraints.txt setuptools
	$(PY) -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[book,test]'
	@touch $@

# The book alone: the list called `book` in pyproject.toml, and no torch.
$(BOOK_VENV)/$(STAMP): pyproject.toml constraints.txt | $(BOOK_PY)
	@$(BOOK_PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["book"], sep="\n")' \
	  > $(BOOK_VENV)/requirements.txt
	$(BOOK_PY) -m pip install --quiet -c constraints.txt -r $(BOOK_VENV)/requirements.txt
	@touch $@

.PHONY: install
install: $(VENV)/$(STAMP)  ## make .venv with the library, the book's tools and the tests' tools

# ---------------------------------------------------------------- the site

.PHONY: book
book: $(BOOK_VENV)/$(STAMP)  ## build the site into _build/html (fresh machine: sets everything up)
	$(BOOK_VENV)/bin/jupyter-book build . -W --keep-going
	@echo "The site is built. Open $(CURDIR)/$(SITE)/index.html in a browser, or run: make serve"

.PHONY: serve
serve: book  ## build the site and serve it on http://127.0.0.1:8000 (PORT=…)
	$(BOOK_PY) -m http.server --bind 127.0.0.1 --directory $(SITE) $(PORT)

.PHONY: publish
publish: $(BOOK_VENV)/$(STAMP)  ## build the copy to publish, stamped with GITHUB_REPOSITORY (owner/name)
	$(BOOK_PY) tools/publish.py

# ---------------------------------------------------------------- checks

# A browser for the tests of the pages: the one CHROMIUM names, Debian's, or playwright's own.
.PHONY: browser
browser: $(VENV)/$(STAMP)
	@test -n "$$CHROMIUM" || test -x /usr/bin/chromium || $(PY) -m playwright install chromium

# The linters and the site each need one processor and an environment of their own: both at once.
.PHONY: test
test:  ## set everything up and run every check
	@$(MAKE) lint & lint=$$!; $(MAKE) book; book=$$?; wait $$lint && exit $$book
	@BUILT_SITE="$(CURDIR)/$(SITE)" $(MAKE) check
	@$(MAKE) notebooks-check
	@echo "All checks passed."

.PHONY: lint
lint: $(VENV)/$(STAMP)  ## ruff, mypy, and the linters of the workflows
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)/bin/zizmor --offline --no-progress --quiet .github/workflows

.PHONY: check
check: $(VENV)/$(STAMP) browser  ## the tests, those of the built site among them
	$(TWO_PROCESSES) $(PY) -m pytest -n 2 --dist loadfile -q

# Left out: the slow tests (weights measured again, several processes), and those of the pages and of the house.
.PHONY: coverage
coverage: $(VENV)/$(STAMP)  ## the quick tests of the library: do they run at least 95 % of its lines and branches?
	$(TWO_PROCESSES) $(PY) -m pytest -n 2 --dist loadfile -q -m "not slow" --ignore=tests/book --ignore=tests/house \
	  --cov=genai_lib --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=95

.PHONY: notebooks-check
notebooks-check: $(VENV)/$(STAMP)  ## run every notebook again and compare each output with the committed one
	$(TWO_PROCESSES) TQDM_DISABLE=1 $(NBVAL) -n 2 --dist loadfile $(NOTEBOOKS)

.PHONY: paths
paths: $(VENV)/$(STAMP)  ## the same on a CPU without AVX, with one thread: do the numbers survive?
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TQDM_DISABLE=1 ATEN_CPU_CAPABILITY=default DNNL_MAX_CPU_ISA=SSE41 $(NBVAL) $(NOTEBOOKS)

# ---------------------------------------------------------------- making

.PHONY: notebooks
notebooks: $(VENV)/$(STAMP)  ## run every notebook from a clean kernel and keep its outputs (NOTEBOOKS=… for some)
	$(TWO_THREADS) $(PY) tools/run_notebooks.py $(NOTEBOOKS)

.PHONY: pages
pages: $(VENV)/$(STAMP)  ## write the tables of the pages: verdicts from the ledger, speed from the benchmarks and cards
	$(PY) -m tools.write_verdicts
	$(PY) -m tools.write_how_fast

.PHONY: data
data: $(VENV)/$(STAMP)  ## rebuild the packed data from its sources and check every hash
	$(PY) tools/pack_data.py
	$(PY) -m tools.pack_rhymes

.PHONY: lock
lock: $(VENV)/$(STAMP)  ## write constraints.txt from what is installed in .venv
	$(PY) tools/lock.py

# The reports grow in a folder of their own: what a broken run has measured is not measured again. At the end they are moved.
.PHONY: bench
bench: $(VENV)/$(STAMP)  ## the benchmarks (three quarters of an hour): this library beside what a reader would otherwise use
	@mkdir -p $(BENCH)
	$(TWO_THREADS) $(PY) benchmarks/vae_training.py --out $(BENCH)/vae_training.json
	$(TWO_THREADS) $(PY) benchmarks/gan_quality.py --out $(BENCH)/gan_quality.json
	$(TWO_THREADS) $(PY) benchmarks/gpt_training.py --out $(BENCH)/gpt_training.json
	$(TWO_THREADS) $(PY) benchmarks/diffusion_training.py --out $(BENCH)/diffusion_training.json
	$(TWO_THREADS) $(PY) benchmarks/classical.py --out $(BENCH)/classical.json
	$(TWO_THREADS) $(PY) benchmarks/step.py --out $(BENCH)/step.json
	$(TWO_THREADS) $(PY) benchmarks/sokoban_sizes.py --out $(BENCH)/sokoban_sizes.json
	$(TWO_THREADS) $(PY) benchmarks/compression.py --out $(BENCH)/compression.json
	$(TWO_THREADS) $(PY) benchmarks/studio.py --out $(BENCH)/studio.json
	mv $(BENCH)/*.json $(RESULTS)/
	$(PY) -m tools.write_how_fast

.PHONY: mutants
mutants: $(VENV)/$(STAMP)  ## change models, objectives and metrics in small ways, and count what the tests notice (an hour)
	$(PY) -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[mutation]'
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TQDM_DISABLE=1 $(VENV)/bin/mutmut run --max-children 2
	$(VENV)/bin/mutmut results

.PHONY: sweep
sweep: $(VENV)/$(STAMP)  ## run the shipped sweeps again (about three hours)
	$(PY) benchmarks/k8_autoencoder.py --out genai_lib/data/k8_autoencoder.json
	$(PY) benchmarks/gan_mlp_passes.py --out genai_lib/data/gan_mlp_passes.json
	$(PY) benchmarks/k13_conditional.py --out genai_lib/data/k13_conditional.json
	$(PY) benchmarks/rate_distortion.py --out genai_lib/data/rate_distortion.json
	$(PY) benchmarks/k5_cost.py --out genai_lib/data/k5_cost.json
	$(PY) benchmarks/k9_spread.py --out genai_lib/data/k9_spread.json --workers 2
	$(PY) benchmarks/k11_parallel.py --out genai_lib/data/k11_parallel.json
	$(PY) benchmarks/diffusion_steps.py --out genai_lib/data/diffusion_steps.json
	$(PY) benchmarks/k6_realism.py --out genai_lib/data/k6_realism.json
	$(PY) benchmarks/k7_text.py --out genai_lib/data/k7_text.json
	$(PY) benchmarks/k12_transfer.py --out genai_lib/data/k12_transfer.json
	$(PY) benchmarks/data_is_key.py --out genai_lib/data
	$(PY) benchmarks/music_settings.py --out genai_lib/data/music_settings.json
	$(PY) benchmarks/art.py --out genai_lib/data/art.json
	$(PY) benchmarks/k14_pairs.py --out genai_lib/data/k14_pairs.json
	$(PY) benchmarks/k15_synthetic.py --out genai_lib/data/k15_synthetic.json
	$(PY) benchmarks/k30_rules.py --out genai_lib/data/k30_rules.json
	$(PY) benchmarks/sokoban_rounds.py --out genai_lib/data/sokoban_rounds.json

.PHONY: table
table: $(VENV)/$(STAMP)  ## every generator of digits on one table, held to its card (ten minutes; finished rows are kept)
	$(PY) benchmarks/big_table.py --out genai_lib/data/big_table.json

.PHONY: clean
clean:  ## remove what the commands above have made, environments too
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov build *.egg-info "$(VENV)" "$(BOOK_VENV)"
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
