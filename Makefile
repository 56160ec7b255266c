# Everything runs in .venv, which is made and filled on first use and again when the requirements change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-slow engines peers lint clean

demo: $(STAMP)
	$(BIN)/edge-ad demo -o demo_output

test: lint
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# Every method's engine in every precision for every target: some minutes. Writes benchmarks/results/engines.md.
engines: $(STAMP)
	$(BIN)/python -m benchmarks engines

# Other packages that `python -m benchmarks latency --peers` measures beside ours, in an environment of their own.
peers: .peers/.installed

.peers/.installed: benchmarks/peers/requirements.txt
	'$(PYTHON)' -m venv --clear .peers
	.peers/bin/python -m pip install -q -r $<
	for method in efficientad-s supersimplenet; do \
		.peers/bin/python -m benchmarks.peers.models $$method .peers/models/$$method || exit 1; \
	done
	@touch $@

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

# Outputs and caches; .venv stays.
clean:
	rm -rf demo_output build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

RECENT := import sys; sys.exit(sys.version_info < (3, 10))

# A .venv that was left half made, or belongs to an older Python, is made again.
$(STAMP): pyproject.toml constraints.txt
	@command -v '$(PYTHON)' >/dev/null || { echo "make: there is no $(PYTHON); install Python 3.10 or newer, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@'$(PYTHON)' -c '$(RECENT)' || { echo "make: $(PYTHON) is $$('$(PYTHON)' --version 2>&1), but Python 3.10 or newer is needed; say make PYTHON=/path/to/python3" >&2; exit 1; }
	@{ $(BIN)/python -c '$(RECENT)' && $(BIN)/python -m pip --version; } >/dev/null 2>&1 || '$(PYTHON)' -m venv --clear $(VENV) || { echo "make: $(PYTHON) cannot make virtual environments; on Debian and Ubuntu install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV); the first time takes some minutes."
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@
