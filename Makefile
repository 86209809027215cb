# Two commands for a fresh clone: `make scan` and `make test`. Each sets up what it needs, once, in VENV.
#
#   PYTHON  the Python to set up from. If it has a torch, exactly that torch is used, and nothing of it is changed.
#   VENV    the environment to use. One that exists is used as it is: its torch is never replaced.
#   TORCH   what to install where there is no torch at all.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
export PIP_DISABLE_PIP_VERSION_CHECK := 1

PY := $(VENV)/bin/python
PIP := $(PY) -m pip install -q
SOURCES := setup.py pyproject.toml $(shell find csrc -type f -not -name '.*')
# A stamp holds the path of the checkout that the environment runs. Two checkouts may take turns with one environment.
foreign = $(if $(filter $(CURDIR),$(shell cat $(1) 2>/dev/null)),,FORCE)
# Found, not imported: a torch that is there and broken is for its owner to mend, and not to be replaced.
has_torch = $(1) -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)'
comma := ,

help:
	@echo 'make scan    set up, then scan a published model with a real flaw: forces of SchNet'
	@echo 'make test    set up, then run the tests'
	@echo 'make env     set up, then print what a bug report needs'
	@echo 'make clean   remove what was built; environments stay'
	@echo
	@echo 'PYTHON=$(PYTHON)  VENV=$(VENV)  TORCH=$(TORCH)'

# Exit status 1 means "found something", which is what this model is here for.
scan: $(VENV)/.detprobe-examples
	@$(VENV)/bin/detprobe scan examples/schnet_forces.py:make || test $$? -eq 1

test: $(VENV)/.detprobe-test
	@$(PY) -m pytest

env: $(VENV)/.detprobe-examples
	@$(VENV)/bin/detprobe env

# A torch outside is seen through a .pth file: --system-site-packages would skip it where PYTHON is a venv's own.
$(PY):
	@echo 'Creating $(VENV) from $(PYTHON)'
	@$(PYTHON) -m venv $(VENV)
	@if $(call has_torch,$(PYTHON)); then \
	    $(PYTHON) -c 'import sys; print(*(p for p in sys.path if p.endswith("-packages")), sep="\n")' \
	        > "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/outside.pth"; fi

# The constraint keeps pip from replacing a torch that is there; naming torch keeps what it asks of setuptools. ninja is
# called by name and may lie outside, hence PATH.
define setup
@$(call has_torch,$(PY)) || { echo 'Installing $(TORCH)'; $(PIP) '$(TORCH)'; }
@$(PY) -c 'from importlib.metadata import version; print("torch==" + version("torch"))' > $(VENV)/torch.txt
@echo 'Building detprobe in $(VENV)'
@$(PIP) -c $(VENV)/torch.txt torch 'setuptools>=77' wheel ninja 'pybind11>=2.13' numpy
@outside="$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("scripts"))')"; \
    PATH="$(abspath $(VENV))/bin:$$outside:$$PATH" $(PIP) -c $(VENV)/torch.txt --no-build-isolation -e '.[$(1)]'
@rm -f $(VENV)/.detprobe-*
@for extra in $(2); do echo '$(CURDIR)' > $(VENV)/.detprobe-$$extra; done
endef

$(VENV)/.detprobe-examples: $(SOURCES) $(call foreign,$(VENV)/.detprobe-examples) | $(PY)
	$(call setup,examples,examples)

$(VENV)/.detprobe-test: $(SOURCES) $(call foreign,$(VENV)/.detprobe-test) | $(PY)
	$(call setup,examples$(comma)test,examples test)

# Without the stamps the next command builds again.
clean:
	rm -rf build detprobe.egg-info detprobe/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis $(VENV)/.detprobe-*
	find detprobe tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help scan test env clean FORCE
