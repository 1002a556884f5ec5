# Everything here needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: venv demo test check bench calibrate physics annotators soak clean

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

test: venv
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: venv
	$(BIN)/python -m benchmarks.speed

calibrate: venv
	$(BIN)/python -m benchmarks.calibration

physics: venv
	$(BIN)/python -m benchmarks.envpool

annotators: venv
	$(BIN)/python -m benchmarks.preferences

soak: venv
	$(BIN)/python -m benchmarks.crashes

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
