#!/usr/bin/env bash
# Both nets, side by side on one GPU, from the meshes to a weights file; docs/training.md says when.
#
#   scripts/train_on_gpu.sh SKELETON LUMBOSACRAL WORK MINUTES SEED
#
# SKELETON and LUMBOSACRAL are folders of meshes. WORK keeps the bodies and the runs, so that the same command with
# the same seed goes on where it stopped. It leaves WORK/bones.safetensors, with both new nets, and new_coarse and
# new_fine.safetensors, each with the packaged other one: benchmarks/segmentation.py tells which is best. MINUTES are
# those of the training; building the coarse bodies takes about two more on 16 cores, and the fine net begins four later. Needs python with torch, numpy, scipy,
# safetensors.
set -euo pipefail
cd "$(dirname "$0")/.."
skeleton=$1 lumbosacral=$2 work=$3 minutes=$4 seed=$5
export PYTHONPATH=. PYTHONUNBUFFERED=1 OMP_NUM_THREADS=2
cores=$(nproc)
python3=$(command -v python3)
start=petbone/weights/bones.safetensors
mkdir -p "$work"
"$python3" scripts/build_anatomy.py --meshes "$skeleton" --lumbosacral "$lumbosacral" \
  --cache "$work/anatomy" --jobs "$cores"
sed "s/^seed = .*/seed = $seed/" configs/train_synthetic.toml > "$work/train.toml"
# Samples are rendered on the GPU: processes that render fine patches beside it made a step four times as slow.
"$python3" scripts/train_bones.py "$work/train.toml" --anatomies "$work/anatomy" --out "$work/coarse" \
  --minutes "$minutes" --workers 0 --start-from "$start" &
coarse=$!
SECONDS=0
"$python3" scripts/build_fine_anatomy.py --meshes "$skeleton" --lumbosacral "$lumbosacral" \
  --base "$work/anatomy" --cache "$work/anatomy_fine" --jobs "$cores"
left=$("$python3" -c "print(max(0.2, $minutes - $SECONDS / 60))")
"$python3" scripts/train_fine.py --cache "$work/anatomy_fine" --out "$work/fine" --minutes "$left" \
  --workers 0 --batch 4 --seed "$seed" --start-from "$start" &
fine=$!
wait "$coarse"
wait "$fine"
"$python3" scripts/export_weights.py "$work/coarse/checkpoint.pt" "$work/bones.safetensors" \
  --fine "$work/fine/checkpoint.pt"
# Either net alone, beside the packaged other one: a longer trained coarse net may draw better and name worse.
"$python3" scripts/export_weights.py "$work/coarse/checkpoint.pt" "$work/new_coarse.safetensors" --fine "$start"
"$python3" scripts/export_weights.py "$start" "$work/new_fine.safetensors" --fine "$work/fine/checkpoint.pt"
tail -n 3 "$work/coarse/log.csv" "$work/fine/log.csv"
