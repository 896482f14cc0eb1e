#!/usr/bin/env bash
# Writes tests/data/oracle/*.safetensors anew with the jaxlib version that scripts/requirements-demo.txt names.
set -euo pipefail
cd "$(dirname "$0")/../.."

data=tests/data/oracle
run() { .venv/bin/python scripts/oracle/run_jaxlib.py "$data/$1.mlir" -o "$data/$1.safetensors" --seed 1 "${@:2}"; }
run bert --scale 0.2 --int-max 15
run gpt2_decode --scale 0.2
run int8mm --scale 1 --int-max 100
run mamba --scale 0.2
