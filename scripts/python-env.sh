#!/usr/bin/env bash
# Makes .venv and installs one or more of its pinned requirement sets: scripts/python-env.sh demo|test...
# Exits 3 when the package index cannot give a package, so that a caller can go on without it.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || { echo "usage: scripts/python-env.sh demo|test..." >&2; exit 2; }
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "setup: error: Python 3.11 or newer is needed, this is $(python3 --version)" >&2; exit 1; }
[ -x .venv/bin/python ] && .venv/bin/python -c 'import pip' 2>/dev/null || python3 -m venv --clear .venv

for set in "$@"; do
  list=scripts/requirements-$set.txt
  stamp=.venv/requirements-$set.stamp
  if cmp -s "$list" "$stamp"; then continue; fi
  echo "setup: installing Python packages of $list into .venv"
  # The lists are complete, so nothing is resolved: some packages would otherwise pull in gigabytes that are not used here.
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --retries 2 --no-deps -r "$list" || exit 3
  if [ "$set" = test ]; then
    ptxas=$(.venv/bin/python -c 'import pathlib, nvidia; print(*[p for root in nvidia.__path__ for p in pathlib.Path(root).glob("*/bin/ptxas")])')
    [ -x "$ptxas" ] || { echo "setup: error: ptxas is not in the installed package nvidia-cuda-nvcc" >&2; exit 1; }
    ln -sf "$ptxas" .venv/bin/ptxas
  fi
  cp "$list" "$stamp"
done
