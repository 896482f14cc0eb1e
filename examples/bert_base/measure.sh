#!/usr/bin/env bash
# Times artifacts on the GPU of this machine beside XLA, in one run: measure.sh ICD_RUN ARTIFACTS RESULTS
# ARTIFACTS holds NAME.icd with NAME.input.safetensors and NAME.expected.safetensors for each model, and bert_f16.input.safetensors for XLA.
set -euo pipefail
mkdir -p "$3"
run=$(realpath "$1") results=$(realpath "$3")
here=$(cd "$(dirname "$0")" && pwd)
cd "$2"
printf '{"date": "%s", "command": "examples/bert_base/measure.sh: icd-run NAME.icd verify --tolerance 5e-3; icd-run NAME.icd bench --backend cuda --warmup 20 --runs 300; bert_base.py xla"}\n' "$(date -u +%F)" >"$results/command.json"
for model in *.icd; do
  name=$(basename "$model" .icd)
  input=$name.input.safetensors
  "$run" "$model" verify --inputs "$input" --expected "$name.expected.safetensors" --tolerance 5e-3 --json "$results/verify_$name.json"
  "$run" "$model" bench --backend cuda --inputs "$input" --warmup 20 --runs 300 --json "$results/bench_$name.json"
done
python3 "$here/bert_base.py" xla "bert_f16.input.safetensors" -o "$results/xla.json"
