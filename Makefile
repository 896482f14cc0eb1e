# make demo    set up, build, then compile and run a real model
# make test    set up, then run every check and test
# make setup   what both share: install missing Debian packages and check the Rust toolchain
# make build   the tools, in target/release
# make fmt     format the Rust sources
# make docs    write the generated pages of the book
# make oracle  compute the stored test results anew

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help setup build demo test fmt docs oracle clean-out

help:
	@sed -n 's/^# make/make/p' Makefile

setup:
	@scripts/setup.sh

build: setup
	cargo build --release --workspace

demo: build
	@scripts/demo.sh

test: setup
	@scripts/test.sh

fmt:
	cargo fmt --all

# Writes the pass reference of the book from the table of passes.
docs: setup
	ICD_BLESS=1 cargo test --release -p icd-passes --test docs

# Runs XLA's CPU backend again for the stored results in tests/data/oracle and tests/data/programs.
oracle: setup
	@scripts/python-env.sh demo
	@scripts/oracle/regenerate.sh && .venv/bin/python scripts/oracle/programs.py

clean-out:
	rm -rf out
