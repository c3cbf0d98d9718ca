# Everything the project does, one word each; `make help` explains them. Nothing has to be set up by hand.
PYTHON  ?= python3
VENV    ?= .venv
PROFILE ?= demo
TOOLS   ?=
JOBS    ?= $(if $(filter demo ci,$(PROFILE)),2,1)
PY       = $(VENV)/bin/python
# -E: without the user's PYTHON* variables, which may put other modules first.
RUN      = $(PY) -E -m cbtllm_utils.workflow
# Another build of the locked torch, from PyTorch's own index: cu126 has kernels for GPUs from before 2018 (V100, P100).
TORCH   ?=
LOCKED   = $(shell sed -n 's/^torch==//p' requirements.lock)
BUILD    = $(PY) -m pip install --quiet --disable-pip-version-check --extra-index-url https://download.pytorch.org/whl/$(TORCH) torch==$(LOCKED)+$(TORCH)

.DEFAULT_GOAL := help
.PHONY: help setup reproduce verify test lint lab report release bench check-tools stock lock clean

help:       ## this list
	@awk -F ':.*## ' '/^[a-z-]+: .*##/ {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PROFILE=ci|demo|small|released|paper|modern chooses the parameter file (now: $(PROFILE)), JOBS=n the notebooks at a time"

setup: $(VENV)/.ready   ## a virtual environment with the locked dependencies (TORCH=cu126: for GPUs older than 2018)
	@$(if $(TORCH),$(BUILD))

$(VENV)/.ready: requirements.lock packaging/jury-relaxed/repack.py
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); sys.exit(None if ok else "cbtllm needs Python 3.11, 3.12 or 3.13, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	@echo "Setting up $(VENV): about 2 GB of packages, a few minutes, once."
	$(PYTHON) -m venv --clear $(VENV)
	$(if $(TORCH),$(BUILD))
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(PY) -m pip check
	@touch $@

reproduce: setup   ## run all notebooks headless: every table and figure, and the report (PROFILE=demo)
	@$(RUN).pipeline --profile $(PROFILE) --jobs $(JOBS)

verify: setup   ## compare the tables of the last run with the committed ones and list what differs
	@$(RUN).verify --profile $(PROFILE)

test: setup   ## the test suite, the ci profile end to end included
	$(PY) -m ruff check . && $(PY) -m ruff format --check .
	$(PY) -m pytest

lint: setup   ## format and fix what ruff can
	$(PY) -m ruff check --fix . && $(PY) -m ruff format .

lab: setup   ## open JupyterLab on the notebooks
	$(PY) -m jupyterlab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks

report: setup   ## bind the last run of PROFILE into runs/PROFILE/report.html again, and print it where there is Chromium
	@$(RUN).report --profile $(PROFILE) --pdf

release: reproduce   ## run what is out of date, then refresh the committed results (figures/PROFILE, rendered/, README)
	@$(RUN).report --profile $(PROFILE) --release

bench: setup   ## measure against what a user would otherwise use: benchmarks/README.md
	@$(PY) -m benchmarks

check-tools: setup   ## run LLaMA-Factory, vLLM, Label Studio and others on the demo's run (TOOLS="vllm servers"): benchmarks/tools.md
	@$(PY) -m benchmarks.tools $(TOOLS)

stock: setup   ## the backbones of PROFILE for other programs, and their training for LLaMA-Factory: docs/training.md
	@$(RUN).stock --profile $(PROFILE)

lock:   ## maintainers only, needs uv: choose the newest versions that go together
	uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --no-annotate \
	  --custom-compile-command "make lock" requirements.in -o requirements.lock
	# The CPU and CUDA builds of torch share one line: each brings what it needs itself.
	# With a suffix -i means the same to GNU's sed and to that of macOS.
	sed -i.old -E "s/^(torch==[^+ ]+)\+[a-z0-9]+/\1/; /^(nvidia-|cuda-|triton)/d; /== 'emscripten'$$/d" requirements.lock && rm requirements.lock.old

clean:   ## remove the environments; runs/ stays: it may hold paid answers and the keys of rating forms
	rm -rf $(VENV) .tools
