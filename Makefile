# `make demo` and `make test` do all the set-up they need: a virtual environment with the locked packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench bench-peers mutants lock clean

demo: $(READY)
	$(BIN)/standby demo

test: $(READY)
	$(BIN)/pytest -n 2 --dist worksteal

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --warnings
	$(BIN)/pytest -q tests/test_layers.py

# About a quarter of an hour; `make bench ONLY=streams` is one part of it, and `FULL=1` does a million runs where it else
# does fifty thousand. Fails where a target is missed. What it measured is in `.bench`, as numbers and as a picture.
bench: $(READY) .bench/plot/.ready
	$(BIN)/pytest -q -s -rfEs tests/bench $(if $(ONLY),-k '$(ONLY)') $(if $(FULL),--full); \
		failed=$$?; .bench/plot/bin/python tests/bench/plot.py; exit $$failed

# What others need, beside us: exact versions, in an environment of their own. Portkey's gateway is a program for Node.
bench-peers: $(READY) .bench/peers/.ready
	$(MAKE) bench ONLY=peers

.bench/plot/.ready:
	$(PYTHON) -m venv .bench/plot
	.bench/plot/bin/python -m pip install --quiet --disable-pip-version-check 'matplotlib>=3.10,<4'
	touch $@

.bench/peers/.ready:
	$(PYTHON) -m venv .bench/peers
	.bench/peers/bin/python -m pip install --quiet --disable-pip-version-check 'litellm[proxy]==1.106.12' 'openai==2.54.0'
	if command -v npm; then npm install --silent --ignore-scripts --prefix .bench/portkey @portkey-ai/gateway@1.15.2; fi
	touch $@

# Installs mutmut into the virtual environment, and mutates the pure modules in a copy, `mutants/`, in which the three
# source roots are one. Takes hours; `make mutants ONLY='standby.runner._budget.*'` takes minutes.
mutants: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'mutmut>=3.8,<4'
	rm -rf mutants && mkdir -p mutants/src
	cp -Rp runner/standby clients/standby store/standby mutants/src
	cp -Rp tests docs pyproject.toml mutants
	cd mutants && ../$(BIN)/mutmut run --max-children 2 $(patsubst %,'%',$(ONLY))
	cd mutants && ../$(BIN)/mutmut results | sed '/: not checked$$/d'

# Needs `uv`; writes every version and hash, and no address.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --all-extras --group dev pyproject.toml -o requirements.lock

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Standby needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

clean:
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis dist mutants
