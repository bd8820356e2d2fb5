# make setup | bench | test | lint | docs | gpu-check     (everything lives in .venv and the user's cache folder)
.DELETE_ON_ERROR:
.PHONY: setup packages core bench test test-pytorch test-jittor test-fake-cuda lint docs gpu-check check-machine clean

# The first interpreter that Jittor 1.3.11 supports; override with `make PYTHON=/path/to/python ...`.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Where there is an NVIDIA driver, also the CUDA compiler that Jittor needs (100 MB).
CUDA = $(shell $(PYTHON) -c 'import ctypes; ctypes.CDLL("libcuda.so.1")' 2>/dev/null && echo ,cuda)

PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# What Jittor's core needs to be compiled: minutes, which pass while the large packages are installed.
CORE_NEEDS := jittor|numpy|onednn|psutil|pydantic|tqdm

check-machine:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.10-3.12 found (Jittor 1.3.11 needs one): install it, or run make PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || { echo "error: $(PYTHON) is not Python 3.10-3.12, which Jittor 1.3.11 needs: run make PYTHON=/path/to/python" >&2; exit 2; }
	@command -v g++ >/dev/null || { echo "error: no g++ found, and Jittor compiles its operators with it: install it (Debian: apt-get install g++)" >&2; exit 2; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { echo "error: $(PYTHON) has no C headers (Python.h): install them (Debian: apt-get install python3-dev)" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) cannot make virtual environments: install venv (Debian: apt-get install python3-venv)" >&2; exit 2; }

$(STAMP): pyproject.toml constraints.txt
	@$(MAKE) --no-print-directory check-machine
	@mkdir -p $(VENV) && date +%s > $(STAMP).began
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -z "$(CUDA)" || echo "an NVIDIA driver is here: installing the CUDA compiler for Jittor as well"
	@sed -nE 's/^ *"(($(CORE_NEEDS))[^"]*)",.*/\1/p' pyproject.toml > $(VENV)/.core.txt
	$(PIP) -r $(VENV)/.core.txt
	@$(MAKE) --no-print-directory -j2 packages core
	@echo $$(( $$(date +%s) - $$(cat $(STAMP).began) )) > $(STAMP)

setup: $(STAMP)

packages:
	$(PIP) -e '.[test$(CUDA)]'

# Where it cannot be compiled, what needs it says so. On CUDA it needs the packages.
core:
	-@test -n "$(CUDA)" || $(BIN)/python -m impls.jittor.runtime --prewarm

bench: setup
	$(BIN)/python run_bench.py --suite train-speed

# One process never holds both frameworks, hence three runs, the last two side by side: each leaves a core idle for long.
# Some tests of the first start either framework in a process of its own.
test: setup
	$(BIN)/python -m impls.jittor.runtime --prewarm
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
	@$(MAKE) --no-print-directory -j2 --output-sync=target test-pytorch test-jittor

test-pytorch test-jittor: test-%: setup
	$(BIN)/python -m pytest tests/frameworks --framework $*

# Jittor's CUDA path on a machine without a GPU, a quarter of an hour on two processors the first time. The compiler
# (100 MB) and what it compiles lie in a folder of their own: the environment stays as it is.
FAKE_CUDA ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ddpm-bench/fake-cuda
test-fake-cuda: setup
	$(BIN)/python -m pip install --disable-pip-version-check --upgrade --no-deps -c constraints.txt --target '$(FAKE_CUDA)/compiler' \
		$$($(BIN)/python -c 'from impls.jittor.setup.cuda_toolkit import COMPILER; print(*COMPILER)')
	FAKE_CUDA_COMPILER='$(FAKE_CUDA)/compiler' FAKE_CUDA_HOME='$(FAKE_CUDA)/home' $(BIN)/python -m pytest tests/fake_cuda

# Everything that only a GPU can show, into gpu-evidence/; goes on where it was stopped.
gpu-check:
	@test -n "$(CUDA)" || { echo "error: there is no GPU to check: no NVIDIA driver (libcuda.so.1) is on this machine" >&2; exit 2; }
	@$(MAKE) --no-print-directory setup
	@$(BIN)/python -m harness.gpucheck

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

# README and docs/ as pages with search, into build/docs.
docs: setup
	@$(BIN)/python -c 'import mkdocs' 2>/dev/null || \
		$(PIP) -e '.[docs]'
	$(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) build *.egg-info
