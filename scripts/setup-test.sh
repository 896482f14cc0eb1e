#!/usr/bin/env bash
# Installs what 'make test' needs on top of scripts/setup.sh: two cargo tools and the Python test packages.
set -euo pipefail
cd "$(dirname "$0")/.."

install_tool() { # crate, version, what it is for
  cargo "${1#cargo-}" --version >/dev/null 2>&1 && return
  echo "setup: installing $1 ($3); compiling it takes a few minutes, once"
  cargo install --quiet --locked "$1" --version "$2"
}
install_tool cargo-nextest 0.9.143 "runs the Rust tests in parallel"
install_tool cargo-deny 0.20.2 "checks licences and sources of dependencies"
scripts/python-env.sh demo test
echo "setup: test tools are in place"
