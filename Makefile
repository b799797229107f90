PYTHON ?= python3
# Python keeps what it compiles, whatever the user has set: the tests start hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint man

demo: .venv/.installed
	@.venv/bin/python tests/demo.py

test: lint
	@.venv/bin/python -m pytest --numprocesses auto --dist worksteal

lint: .venv/.installed
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy

man: .venv/.installed
	@.venv/bin/click-man lrq --target man --man-date 2026-11-25

# Not compiled: Python compiles what is imported, a small part.
.venv/.installed: pyproject.toml
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --no-compile torch==2.13.0
	@.venv/bin/python -m pip install --quiet --no-compile --editable '.[encode,bench,dev]'
	@touch $@
