# Everything here needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: venv demo reference test check bench calibrate envpool preferences crashes clean
.PHONY: physics annotators soak

venv: .venv/installed

# The stamp is written last, so a broken installation is tried again.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: venv
	$(BIN)/shaperun check experiments/article.yaml
	$(BIN)/shaperun train experiments/article.yaml
	$(BIN)/shaperun compare experiments/article.yaml
	$(BIN)/shaperun record-gif experiments/article.yaml
	$(BIN)/shaperun report experiments/article.yaml

# The figures of the README, all from this machine: docs/reference.
reference: demo
	$(BIN)/python -m benchmarks.reference

test: venv
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What these measure, and how long they take: benchmarks/README.md.
bench: venv
	$(BIN)/python -m benchmarks.speed

calibrate: venv
	$(BIN)/python -m benchmarks.calibration

envpool: venv
	$(BIN)/python -m benchmarks.envpool

preferences: venv
	$(BIN)/python -m benchmarks.preferences

crashes: venv
	$(BIN)/python -m benchmarks.crashes

# Former names.
physics: envpool
annotators: preferences
soak: crashes

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
