# make demo    set up, then run the main job: a three-node cluster that is loaded, split and hurt
# make test    set up, then run every check and test
# make soak    hurt clusters of real processes for MINUTES, and check every answer
# make mutants the product with one safety rule disabled at a time: what notices it
# make bars    what a release must reach, counted in full: crash points, bit flips, full disks, frames
# make coverage lines and branches of the core packages that the unit tests run, and what they miss
# make lint    format, lint, types, layers
# make bench   micro benchmarks, then throughput of a local three-node cluster
# make compare the product beside etcd and others, those that are installed

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format unit simulation integration soak bench compare mutants bars coverage clean

demo: .venv/.installed
	$(BIN)/multiraft demo

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

SEEDS ?= 1..6

test: lint unit simulation integration

lint: .venv/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

unit: .venv/.installed-dev
	$(BIN)/pytest -n 2 -m 'not integration'

simulation: .venv/.installed-dev
	$(BIN)/multiraft sim run all --seeds $(SEEDS) --jobs 2

mutants: .venv/.installed-dev
	$(BIN)/python -m tests.mutants

bars: .venv/.installed-dev
	$(BIN)/python -m tests.bars

coverage: .venv/.installed-dev
	$(BIN)/coverage run -m pytest -m 'not integration'
	$(BIN)/coverage report
	$(BIN)/python -m tests.handlers

integration: .venv/.installed-dev
	$(BIN)/pytest -m integration

MINUTES ?= 10

soak: .venv/.installed-dev
	$(BIN)/multiraft torture --minutes $(MINUTES)

bench: .venv/.installed-dev
	$(BIN)/pytest -q bench/bench_*.py --benchmark-only --benchmark-columns=median,iqr,ops
	$(BIN)/multiraft bench

COMPARE ?=

compare: .venv/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[compare]'
	$(BIN)/python -m bench.compare $(COMPARE)

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .hypothesis .benchmarks
