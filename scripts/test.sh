#!/usr/bin/env bash
# Every check and test, in the order in which they fail soonest; prints the time of each stage and stops at the first failure.
set -euo pipefail
cd "$(dirname "$0")/.."

times=()
current=
began=$SECONDS
report() {
  local status=$?
  [ $status = 0 ] || echo "test: stage '$current' failed (exit $status)" >&2
  printf 'test: seconds a stage:'
  printf ' %s' "${times[@]}"
  printf '; %s in all\n' "$((SECONDS - began))"
  exit $status
}
trap report EXIT
stage() {
  local start=$SECONDS
  current=$1
  echo "== $1"
  "${@:2}"
  times+=("$1=$((SECONDS - start))")
}

deny() {
  cargo deny --log-level error check bans licenses sources
  # Advisories need a copy of the public advisory database: checked where it can be fetched.
  if timeout 60 cargo deny --log-level off fetch db 2>/dev/null; then
    cargo deny --log-level error check advisories
  else
    echo "deny: the advisory database cannot be fetched here; advisories were not checked"
  fi
}

stage tools scripts/setup-test.sh
stage format cargo fmt --all --check
stage spelling .venv/bin/typos docs examples scripts ./*.md Makefile
stage docs python3 scripts/check_docs.py
stage deny deny
stage clippy cargo clippy --release --workspace --all-targets -- -D warnings
stage rustdoc env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --release --workspace --no-deps
stage build cargo build --release --workspace
stage nextest cargo nextest run --release --workspace --no-fail-fast
stage lit python3 scripts/lit.py
current=done
