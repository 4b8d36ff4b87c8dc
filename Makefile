# Each target sets up what it needs (scripts/setup) and runs on a machine that has only Python 3.11, git and make.
#   make test [ARGS="-k docker"] [PYTHON=python3.13]

PYTHON ?= python3
export PYTHON
BIN := .venv/bin

.PHONY: test demo bench soak format clean

# Every step runs, so that one look shows all there is to mend; pytest is last, so that its closing line is.
test:
	@scripts/setup test
	@failed=; \
	step() { echo "==> $$*"; "$(BIN)/$$@" || failed="$$failed  $$*\n"; }; \
	step lint-imports --no-logo; \
	step ruff check .; \
	step ruff format --check .; \
	step mypy --strict -p scriptrules; \
	step pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not soak" $(ARGS); \
	if [ -n "$$failed" ]; then printf "make test: these steps failed:\n$$failed" >&2; exit 1; fi

demo:
	@scripts/setup demo
	@$(BIN)/python scripts/demo.py

bench:
	@scripts/setup bench
	@$(BIN)/python benchmarks/run.py $(ARGS)

soak:
	@scripts/setup test
	@$(BIN)/pytest -m soak --timeout 3600 $(ARGS)

format:
	@scripts/setup test
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .import_linter_cache .hypothesis .pytest_cache
