# `make demo` and `make test` do all the set-up they need: a virtual environment with the locked packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench mutants lock clean

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

bench: $(READY)
	$(BIN)/pytest -q tests/bench --benchmark-columns=min,median,mean,rounds --benchmark-sort=name -s

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
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist mutants
