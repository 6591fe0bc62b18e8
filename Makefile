# Every target works on a fresh clone with Python 3.11 or newer: scripts/venv.sh installs what the lock files say into .venv.
# PYTHON=/path/to/python chooses the interpreter; ARGS="…" goes to the command a target runs.

.DEFAULT_GOAL := help
.PHONY: help run test check fmt bench lock clean venv sdks system
BIN := .venv/bin

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: venv ## start the gateway with a local SageMaker behind it
	@$(BIN)/lmi-gateway dev $(ARGS)

test: check sdks system ## run the checks, then every test
	$(BIN)/pytest -n 2 --dist worksteal $(ARGS)

check: venv ## formatting, lint, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

fmt: venv ## format the code and sort its imports
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: venv ## measure the gateway under load on this machine
	@$(BIN)/python -m tests.load.bench $(ARGS)

lock: venv ## write the lock files anew; ARGS=--upgrade takes the newest releases
	@scripts/lock.sh $(ARGS)

clean: ## remove the environment, builds and caches
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@scripts/venv.sh

sdks: venv
	@scripts/venv.sh sdks

system:
	@scripts/system.sh
