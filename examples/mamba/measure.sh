#!/usr/bin/env bash
# Arms of Mamba-2.8B's shape on the GPU of this machine: [PROGRAMS="prefill decode"] measure.sh BIN_DIR OUT_DIR [LAYERS] [GATE_OPTIONS…]
# BIN_DIR holds icd-opt and icd-run. OUT_DIR/prefill and OUT_DIR/decode get the programs, their artifacts, and the gate's metrics.json, metrics.csv and report.html.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(realpath "$1") out=$2 layers=${3:-16}
shift "$(($# < 3 ? $# : 3))"
prune=',icd-sparsify{pattern=channels keep=50}'
declare -A prefill=([A]='' [B]="$prune" [C2]="$prune,icd-repermute" [NA]=',icd-permute{objective=random seed=1}' [NB]="$prune,icd-permute{objective=random seed=2}")
declare -A decode=([A]='' [C2]=',icd-quantize{scheme=w4a16 group=128}' [NA]=',icd-permute{objective=random seed=1}')
for program in ${PROGRAMS:-prefill decode}; do
  declare -n arms=$program
  folder=$out/$program
  python3 "$here/mamba.py" "$folder" --program $program --layers "$layers"
  mkdir -p "$folder/arms"
  plan=()
  for role in A B C2 NA NB; do
    [[ -v arms[$role] ]] || continue
    pipeline="builtin.module(icd-simplify${arms[$role]},icd-convert,icd-egraph,icd-pack{arch=sm_90a dense=true},icd-fuse)"
    "$bin/icd-opt" "$folder/mamba.mlir" --weights "$folder/weights.safetensors" --emit=artifact --targets=sm_90a -o "$folder/arms/$role.icd" --pass-pipeline="$pipeline"
    plan+=("$role=$pipeline")
  done
  python3 "$here/mamba.py" "$folder" --plan "${plan[@]}"
  "$bin/icd-run" "$folder" gate --backend cuda --epochs 10 --rounds 6 --sample-ms 40 --no-counters "$@"
done
