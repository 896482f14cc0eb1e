#!/usr/bin/env bash
# Measures eviction by mask and by compaction on the GPU of this machine, as arms of a gate: measure.sh BIN_DIR OUT_DIR [GATE_OPTIONS…]
# BIN_DIR holds icd-opt and icd-run. OUT_DIR gets the programs, their artifacts, and the gate's metrics.json, metrics.csv and report.html.
# Without hardware counters: Nsight Compute is slow for the thousands of kernels of one call.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(realpath "$1") out=$2
shift 2
mkdir -p "$out/arms"
cd "$out"
python3 "$here/decoder.py" . --inputs
compile() {
  "$bin/icd-opt" "$2.mlir" --weights weights.safetensors --emit=artifact --targets=sm_90a -o "arms/$1.icd" \
    --pass-pipeline="builtin.module(icd-simplify$3,icd-egraph,icd-pack{arch=sm_90a dense=true},icd-fuse)"
}
compile A dense ''
compile B masked ''
compile C2 compacted ''
compile NA dense ',icd-permute{objective=random seed=1}'
compile NB masked ',icd-permute{objective=random seed=1}'
python3 "$here/decoder.py" . --plan
"$bin/icd-run" ./ gate --backend cuda --epochs 12 --rounds 4 --sample-ms 15 --no-counters "$@"
python3 "$here/decoder.py" . --record
