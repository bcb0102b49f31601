# cxr-triage: `make` lists what there is. Nothing here needs root; `make test` uses it where it has it.
#
#   make run ARGS="--home /tmp/trial"     passes ARGS to `cxr-triage up`
#   make test TESTS=tests/end_to_end      runs a part of the tests; JOBS=0: in one process, not two files at a time
#   make run PYTHON=/opt/python3.12/bin/python3

SHELL       := /bin/sh
VENV        := .venv
BIN         := $(VENV)/bin
ROOMS       := dicom_io model db worker
ARGS        ?=
TESTS       ?= tests
PYTEST_ARGS ?=
JOBS        ?= 2
LOG         := $(VENV)/install.log
# one line a step, with its seconds; what it prints is in the log, and shown where it fails
INSTALL     := sh tests/checks/step.sh $(LOG) 20
CHECK       := sh tests/checks/step.sh $(VENV)/check.log 1000
PIP         := $(BIN)/python -m pip install --disable-pip-version-check --no-input --progress-bar off

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help run test check bench fuzz docs peers format clean

help:  ## this list
	@echo 'make run      install into ./$(VENV), start cxr-triage and send it two real radiographs; Ctrl-C stops it'
	@echo 'make test     the checks, then every test; installs the peers that are missing (Orthanc, DCMTK) where it may'
	@echo 'make check    ruff, mypy, import-linter, file lengths: a line each; output only of what fails'
	@echo 'make bench    measurements beside peers measured in the same run'
	@echo 'make fuzz     20,000 mutated data sets and 20,000 mutated PDUs; what they find is kept'
	@echo 'make docs     the documentation as a site in build/site; a broken link stops it'
	@echo 'make format   lets ruff rewrite the sources'
	@echo 'make clean    removes ./$(VENV) and caches; results and received images are elsewhere and stay'
	@echo
	@echo 'What installing prints is in $(LOG), what the checks print in $(VENV)/check.log.'

# The trap keeps make alive until cxr-triage has stopped by itself, and makes Ctrl-C an ordinary way to end.
run: $(VENV)/.installed-run
	@trap : INT TERM; status=0; $(BIN)/cxr-triage up --demonstrate $(ARGS) || status=$$?; \
	 case $$status in 0|130|143) exit 0;; *) exit $$status;; esac

test: check peers
	@$(BIN)/python -m pytest $(TESTS) -m "not benchmark" -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

check: $(VENV)/.installed-test
	@$(CHECK) 'ruff check' $(BIN)/ruff check .
	@$(CHECK) 'ruff format' $(BIN)/ruff format --check .
	@$(CHECK) 'mypy' $(BIN)/mypy --strict $(ROOMS) tests/peers
	@$(CHECK) 'import-linter' $(BIN)/lint-imports
	@$(CHECK) 'file lengths' $(BIN)/python tests/checks/file_lengths.py $(ROOMS) tests

bench: $(VENV)/.installed-test peers
	@$(BIN)/python -m tests.benchmarks $(ARGS)

fuzz: $(VENV)/.installed-test
	@$(BIN)/python -m tests.fuzz $(ARGS)

docs: $(VENV)/.installed-docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

peers: $(VENV)/.installed-test
	@sh tests/peers/install.sh $(BIN)

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# A stamp is written only after its install succeeded, so an interrupted one is taken up again.
$(VENV)/.installed-run: pyproject.toml | $(BIN)/python
	@$(INSTALL) 'Installing cxr-triage (a few GB the first time, with TensorFlow for training; later starts are immediate)' \
	  $(PIP) --editable '.[train,demo]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@$(INSTALL) 'Installing cxr-triage with what its tests need (a few GB the first time)' $(PIP) --editable '.[train,test]'
	@touch $@

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	@$(INSTALL) 'Installing what the documentation needs' $(PIP) --editable '.[docs]'
	@touch $@

# The first Python that really starts (a version manager leaves names on the PATH that do not), new enough and whole.
$(BIN)/python:
	@if [ -f /etc/debian_version ]; then how='apt-get install python3 python3-venv'; \
	 elif command -v dnf >/dev/null 2>&1; then how='dnf install python3.12'; \
	 elif command -v brew >/dev/null 2>&1; then how='brew install python@3.12'; \
	 else how='your package manager, or PYTHON=/path/to/python3 make ...'; fi; \
	 found=; incomplete=; \
	 for candidate in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
	   $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	   if $$candidate -c 'import venv, ensurepip' >/dev/null 2>&1; then found=$$candidate; break; fi; \
	   incomplete=$${incomplete:-$$candidate}; \
	 done; \
	 if [ -z "$$found" ] && [ -n "$$incomplete" ]; then \
	   if [ -f /etc/debian_version ]; then how="apt-get install $$($$incomplete -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; fi; \
	   echo "$$incomplete has no venv module; install it with: $$how" >&2; exit 1; \
	 fi; \
	 if [ -z "$$found" ]; then echo "Python 3.11 or newer was not found; install it with: $$how" >&2; exit 1; fi; \
	 rm -rf $(VENV); mkdir $(VENV); $(INSTALL) "Making $(VENV) with $$($$found --version)" $$found -m venv $(VENV)
