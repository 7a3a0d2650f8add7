# `make demo`, `make quick` and `make test`: each sets up .venv on its first call and starts at once afterwards.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
READY_CLIENTS := $(VENV)/.ready-clients
READY_PEERS := $(VENV)/.ready-peers
CLIENTS := tests/pipelines/batch
READY_SAEBENCH := $(VENV)/.ready-saebench
SAEBENCH := tests/evaluate/saebench.txt
READY_CIRCUIT_TRACER := $(VENV)/.ready-circuit-tracer
CIRCUIT_TRACER := tests/evaluate/latents/circuit_tracer.txt
# What the page of circuit-tracer loads from elsewhere: d3 with its extensions; dagre and pako in the versions that it names.
PAGE_SCRIPTS := d3@7.9.0 d3-jetpack@2.2.1 dagre@0.8.5 pako@2.1.0

QUICK := tests/test_architecture.py tests/test_console.py tests/test_foreign.py tests/test_settings.py tests/docs tests/workers \
	tests/store/format tests/store/read tests/store/write/test_writer.py \
	tests/harvest/model tests/harvest/text tests/harvest/rows/test_run.py \
	tests/train/kernels/cpu tests/train/kernels/test_reference.py tests/train/run/test_trainer.py \
	tests/train/sae/test_sae.py tests/train/sae/formats/test_table.py \
	tests/evaluate/measure tests/evaluate/study tests/evaluate/studies tests/evaluate/test_run.py \
	tests/pipelines/plan tests/pipelines/suite/test_keys.py tests/pipelines/suite/test_members.py

.PHONY: demo quick test acceptance peers check api format clean

demo: $(READY)
	$(BIN)/scopeworks demo --out demo

# Between two edits: the tests of what numbers, rows and files mean, and of each stage's own run. Chosen by how much they say a
# second: no other library to compare with, no cluster, emulator, server, browser or interpreted kernel. All of it is part of `make test`.
quick: $(READY_DEV)
	$(BIN)/python -m pytest -m 'not slow and not emulator and not gpu' $(QUICK)

test: $(READY_DEV)
	$(BIN)/python -m pytest

# What takes minutes: kills, long trajectories, thousands of flips.
acceptance: $(READY_DEV) $(READY_CLIENTS) $(READY_SAEBENCH) $(READY_CIRCUIT_TRACER)
	$(BIN)/python -m pytest -m slow

# The libraries that benchmarks/quality.py compares with; nothing else needs them.
peers: $(READY_PEERS)

check: $(READY_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright

# docs/api.md from the docstrings.
api: $(READY_DEV)
	$(BIN)/python scripts/api_page.py

format: $(READY_DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What running needs. `make demo` installs nothing else.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) must be Python 3.11 or newer; pass another as make PYTHON=python3.12"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $(READY)

# Tests, checks, emulators and the peers that exports are read back with, on top. The link lets the type checker resolve
# `scopeworks.…`, which the editable install maps with an import hook.
$(READY_DEV): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,interop,latents]'
	mkdir -p $(VENV)/links && ln -sfn ../.. $(VENV)/links/scopeworks
	touch $(READY_DEV)

# Clients of batch systems, whose pins are not ours: environments of their own. A test whose client is missing says so.
$(READY_CLIENTS): $(READY_DEV) $(CLIENTS)/clients.txt $(CLIENTS)/skypilot.txt
	for name in clients skypilot; do \
		$(PYTHON) -m venv $(VENV)/$$name && \
		$(VENV)/$$name/bin/pip install --quiet --no-compile -r $(CLIENTS)/$$name.txt || \
		echo "warning: no environment for tests/pipelines/batch/$$name.txt; its tests are skipped"; \
	done
	touch $(READY_CLIENTS)

# The referee of docs/metrics.md. Its environment sees the packages of .venv, so that nothing large is installed twice.
$(READY_SAEBENCH): $(READY_DEV) $(SAEBENCH)
	$(PYTHON) -m venv $(VENV)/saebench && \
		packages='import site; print(site.getsitepackages()[0])' && \
		$(BIN)/python -c "$$packages" > "$$($(VENV)/saebench/bin/python -c "$$packages")/parent.pth" && \
		$(VENV)/saebench/bin/pip install --quiet --no-compile --no-deps -r $(SAEBENCH) || \
		echo "warning: no environment for $(SAEBENCH); its tests are skipped"
	touch $(READY_SAEBENCH)

# Opens the folders of `latents index`. Its page takes scripts from other hosts, which the test routes to these.
$(READY_CIRCUIT_TRACER): $(READY_DEV) $(CIRCUIT_TRACER)
	$(PYTHON) -m venv $(VENV)/circuit-tracer && \
		packages='import site; print(site.getsitepackages()[0])' && \
		$(BIN)/python -c "$$packages" > "$$($(VENV)/circuit-tracer/bin/python -c "$$packages")/parent.pth" && \
		$(VENV)/circuit-tracer/bin/pip install --quiet --no-compile --no-deps -r $(CIRCUIT_TRACER) || \
		echo "warning: no environment for $(CIRCUIT_TRACER); its tests are skipped"
	npm install --silent --no-save --ignore-scripts --prefix $(VENV)/circuit-tracer $(PAGE_SCRIPTS) || \
		echo "warning: no npm, or no scripts for circuit-tracer's page; that test is skipped"
	touch $(READY_CIRCUIT_TRACER)

# dictionary_learning's own requirements are of another age, and its trainers need none of them beside what SAELens brings.
$(READY_PEERS): $(READY) benchmarks/peers.txt
	$(PYTHON) -m venv $(VENV)/peers
	$(VENV)/peers/bin/pip install --quiet --constraint constraints.txt --editable '.[interop]'
	$(VENV)/peers/bin/pip install --quiet --no-deps -r benchmarks/peers.txt
	touch $(READY_PEERS)

clean:
	rm -rf $(VENV) build dist *.egg-info demo
