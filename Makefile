# make demo | test | lint | bench | soak. Each installs what it needs.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test lint bench soak install system-packages clean
