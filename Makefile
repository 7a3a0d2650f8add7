# Two commands: `make demo` and `make test`. Each sets up .venv on its first call and starts at once afterwards.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test acceptance check format clean

demo: $(READY)
	$(BIN)/scopeworks demo --out demo

test: $(READY)
	$(BIN)/python -m pytest

# What takes minutes: kills, long trajectories, thousands of flips.
acceptance: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The link lets the type checker resolve `scopeworks.…`, which the editable install maps with an import hook.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) must be Python 3.11 or newer; pass another as make PYTHON=python3.12"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,interop]'
	mkdir -p $(VENV)/links && ln -sfn ../.. $(VENV)/links/scopeworks
	touch $(READY)

clean:
	rm -rf $(VENV) build dist *.egg-info demo
