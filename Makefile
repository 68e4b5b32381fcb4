# Each target sets up what it needs: a virtual environment in .venv, made once, and again when pyproject.toml changes.
SHELL := /bin/sh
PYTHON ?=

INSTALLED := .venv/.installed
DOCS := .venv/.docs
# Passed by hand: make before 4.4 does not export variables to $(shell).
python = $(shell PYTHON='$(PYTHON)' .ci/python 2>&1)

# A fresh folder for each demonstration; an earlier one is never touched.
ifndef RUN
RUN := runs/demo$(if $(wildcard runs/demo),-$(shell date +%Y%m%d-%H%M%S))
endif

.PHONY: help demo test chaos test-browser test-cluster test-hosts test-huggingface test-onnx test-postgres lint docs bench
help:
	@echo "make demo    fine-tune on Fashion-MNIST from ImageNet weights, into a run folder (RUN=$(RUN))"
	@echo "make test    run the tests (ARGS='...' goes to pytest)"
	@echo "make test-browser  the pages in a real Chromium (as root on Debian or Ubuntu; installs chromium)"
	@echo "make chaos   damage, kill, stop and fuzz on purpose: goes on where it ended, SECONDS=$(SECONDS) of each campaign"
	@echo "make test-cluster  the tests that need Slurm, on a cluster of this machine (root on Debian or Ubuntu: installs slurm-wlm, munge)"
	@echo "make test-hosts  run every option of stages and runs on two processes (many minutes)"
	@echo "make test-huggingface  run the tests that need the package datasets (installs it into .venv)"
	@echo "make test-onnx  run the tests that need jax2onnx (installs it into .venv, without its requirements)"
	@echo "make test-postgres  run the tests that need PostgreSQL, on a server of this machine (as root on Debian or Ubuntu; installs postgresql)"
	@echo "make lint    check style and types"
	@echo "make docs    build the documentation into build/docs; warnings are errors (installs Sphinx into .venv)"
	@echo "make bench   the same task with fastai 2, side by side"

demo: $(INSTALLED)
	@.venv/bin/sgdr-jax train experiments/fashion_mnist.py --run "$(RUN)"

# A worker for each core; one that has run out of tests takes some of another's.
test: $(INSTALLED)
	@.venv/bin/python -m pytest -n logical --dist worksteal $(ARGS)

test-browser: $(INSTALLED)
	@command -v chromium >/dev/null \
		|| { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends chromium; }
	@.venv/bin/python -m pytest -q -m browser tests/report $(ARGS)

# Outcomes of all cases are in build/chaos.csv; full disks need root.
SECONDS ?= 280
CHAOS ?= 200
CAMPAIGNS ?= words images weights files damage kill resume stop full
chaos: $(INSTALLED)
	@for name in $(CAMPAIGNS); do .venv/bin/python -W ignore -m tests.chaos.campaign $$name --seconds $(SECONDS); done; \
		CHAOS=$(CHAOS) .venv/bin/python -m pytest -q -m "slow or not slow" tests/chaos/test_json_files.py $(ARGS); \
		.venv/bin/python -m tests.chaos.campaign table

test-cluster: $(INSTALLED)
	@command -v slurmctld >/dev/null && command -v munged >/dev/null \
		|| { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends slurm-wlm munge; }
	@.venv/bin/python -m pytest -q -m cluster tests/cli/launch $(ARGS)

test-hosts: $(INSTALLED)
	@.venv/bin/python -m pytest -q -m hosts tests/distributed $(ARGS)

test-huggingface: $(INSTALLED)
	@.venv/bin/python -m pip install -qq --disable-pip-version-check --editable '.[datasets]'
	@.venv/bin/python -m pytest -q -m huggingface tests/datasets $(ARGS)

# jax2onnx asks for an older orbax, which converting does not need.
test-onnx: $(INSTALLED)
	@.venv/bin/python -m pip install -qq --disable-pip-version-check onnx onnx-ir onnxruntime
	@.venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps jax2onnx
	@.venv/bin/python -m pytest -q -m onnx tests/runs/export $(ARGS)

test-postgres: $(INSTALLED)
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 \
		|| { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends postgresql; }
	@.venv/bin/python -m pytest -q -m postgres tests/sweeps/test_shared_queue_postgres.py $(ARGS)

lint: $(INSTALLED)
	@.venv/bin/ruff check --quiet
	@.venv/bin/ruff format --check --quiet || { echo "not formatted; run .venv/bin/ruff format"; exit 1; }
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 .venv/bin/pyright

docs: $(DOCS)
	@.venv/bin/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "build/docs/index.html"

bench: $(INSTALLED)
	@.venv/bin/python experiments/bench/vs_fastai.py $(ARGS)

$(INSTALLED): pyproject.toml
	$(if $(filter /%,$(firstword $(python))),,$(error $(python)))
	@.venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null \
		|| { echo "making .venv with $(python)"; "$(python)" -m venv --clear .venv; }
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null
	@echo "installing into .venv, which takes a few minutes the first time"
	@.venv/bin/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(DOCS): $(INSTALLED)
	@echo "installing what builds the documentation into .venv"
	@.venv/bin/python -m pip install -qq --disable-pip-version-check --editable '.[dev,docs]'
	@touch $@
