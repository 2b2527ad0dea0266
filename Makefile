# `make demo` and `make test` are all a newcomer needs; the rest is for work on attrlab itself.
# Needs Python 3.11 or newer; to choose one: make demo PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
PACKAGES := attrlab.bench attrlab.methods attrlab.metrics attrlab.leaderboard

# Runs what follows in a folder outside the checkout that shows the checkout under its import name: tools that turn
# paths into module names then see attrlab.metrics, and not a second package called metrics.
NAMED = dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && ln -s "$(CURDIR)" "$$dir/attrlab" && cd "$$dir" && \
	MYPYPATH="$$dir" PYTHONPATH="$$dir"

.PHONY: help demo test check format tables clean

help:
	@echo "make demo    install into .venv, run the demo suite, print the table, say where the page is"
	@echo "make test    install into .venv, run the tests and the examples in the docstrings"
	@echo "make check   lint and type-check"
	@echo "make format  format, and fix what the linter can fix"
	@echo "make tables  write the README's tables of methods and metrics, from the catalogues and the parity tests"
	@echo "make clean   remove .venv, builds and caches (not the results)"

demo: $(INSTALLED)
	@$(BIN)/attrlab run demo --out results/demo

test: $(INSTALLED)
	@$(NAMED) "$(CURDIR)/$(BIN)/pytest" -c "$(CURDIR)/pyproject.toml" --rootdir="$$dir" -p no:cacheprovider \
		-o consider_namespace_packages=true --doctest-modules --pyargs $(PACKAGES)
	@$(BIN)/pytest

check: $(INSTALLED)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(NAMED) "$(CURDIR)/$(BIN)/mypy" --config-file "$(CURDIR)/pyproject.toml" \
		--cache-dir "$(CURDIR)/.mypy_cache" $(PACKAGES:%=-p %)

format: $(INSTALLED)
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

tables: $(INSTALLED)
	@$(BIN)/pytest tests/methods tests/metrics -q --parity .venv/parity.json
	@$(BIN)/python tests/acceptance/readme_tables.py .venv/parity.json

# Editable, so that `git pull` is enough; installed again when what is required changes.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "attrlab needs Python 3.11 or newer, but $(PYTHON) is: $$($(PYTHON) --version 2>&1)" >&2; \
		echo "Install one, then name it: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "installing into .venv (once; several minutes, mostly downloads)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist attrlab.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
