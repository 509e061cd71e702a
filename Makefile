# `make setup`, `make example`, `make test`: all that is needed to try petbone and to work on it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXAMPLE := example-output

.PHONY: setup example example-two-tracers lint types test train-check clean

setup: $(VENV)/.installed

# The constraints file names the torch release that the project is tested with.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

example: setup
	$(BIN)/petbone phantom -o $(EXAMPLE)/patient --overwrite
	$(BIN)/petbone run $(EXAMPLE)/patient/ct.nii.gz $(EXAMPLE)/patient/naf.nii.gz \
	  $(EXAMPLE)/patient/choline.nii.gz --tracer naf --tracer choline --units suv \
	  -o $(EXAMPLE)/results --overwrite
	$(BIN)/python examples/compare_with_truth.py $(EXAMPLE)/patient $(EXAMPLE)/results
	@echo "The report: $(EXAMPLE)/results/report.html"

# Two tracers on two days, from files to a figure.
example-two-tracers: setup
	$(BIN)/python examples/two_tracers.py $(EXAMPLE)/two-tracers

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

test: lint types
	$(BIN)/pytest

# A small net trained from scratch and judged on synthetic patients that it has not seen.
train-check: setup
	rm -rf cache/train_check
	$(BIN)/python scripts/train_check.py --work cache/train_check

clean:
	rm -rf $(VENV) example-output
