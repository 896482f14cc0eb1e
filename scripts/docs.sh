#!/usr/bin/env bash
# Writes the pages of the book that come from the tools. `make docs` builds the tools first.
set -euo pipefail
cd "$(dirname "$0")/.."

page=docs/src/passes.md
new=$(mktemp)
trap 'rm -f "$new"' EXIT
{
  printf '# Passes\n\nThis page is written by `make docs` from the tool'"'"'s own table of passes.\n\n'
  target/release/icd-opt --list-passes --format=markdown
} > "$new"
cp "$new" "$page"
echo "docs: wrote $page"
