#!/usr/bin/env bash
# Both nets, side by side on one GPU, from packed bodies to weights files; docs/training.md says when.
#
#   scripts/train_on_gpu.sh BODIES WORK MINUTES SEED OUT
#
# BODIES is a folder of scripts/pack_bodies.py. WORK keeps the bodies and the runs, so that the same command with the
# same seed goes on where it stopped. OUT gets bones.safetensors, with both new nets, and new_coarse and
# new_fine.safetensors, each with the packaged other one (benchmarks/segmentation.py tells which is best), and both logs.
# MINUTES are those of all of it: the training gets what unpacking (half a minute on 16 cores) and the end leave.
# Needs python with torch, numpy, scipy, safetensors.
set -euo pipefail
cd "$(dirname "$0")/.."
bodies=$1 work=$2 minutes=$3 seed=$4 out=$5
export PYTHONPATH=. PYTHONUNBUFFERED=1 OMP_NUM_THREADS=2
python3=$(command -v "${PYTHON:-python3}")
start=petbone/weights/bones.safetensors
mkdir -p "$work" "$out"
if [ ! -e "$work/unpacked" ]; then
  "$python3" scripts/pack_bodies.py unpack --from "$bodies" --anatomy "$work/anatomy" --fine "$work/anatomy_fine" \
    --jobs "$(nproc)"
  touch "$work/unpacked"
fi
train=$("$python3" -c "print(max(0.2, round($minutes - $SECONDS / 60 - 0.7, 2)))")
echo "bodies: $SECONDS s, training: $train minutes"
sed "s/^seed = .*/seed = $seed/" configs/train_synthetic.toml > "$work/train.toml"
# Samples are rendered on the GPU: processes that render fine patches beside it made a step four times as slow.
"$python3" scripts/train_bones.py "$work/train.toml" --anatomies "$work/anatomy" --out "$work/coarse" \
  --minutes "$train" --workers 0 --start-from "$start" &
coarse=$!
"$python3" scripts/train_fine.py --cache "$work/anatomy_fine" --out "$work/fine" --minutes "$train" \
  --workers 0 --batch 4 --seed "$seed" --rate 2e-3 --start-from "$start" &
fine=$!
# What one net has learned is kept where the other failed.
failed=0
wait "$coarse" || failed=1
wait "$fine" || failed=1
echo "trained: $SECONDS s"
export_to() {
  "$python3" scripts/export_weights.py "$1" "$out/$2" --fine "$3" || failed=1
}
export_to "$work/coarse/checkpoint.pt" bones.safetensors "$work/fine/checkpoint.pt"
# Either net alone, beside the packaged other one: a longer trained coarse net may draw better and name worse.
export_to "$work/coarse/checkpoint.pt" new_coarse.safetensors "$start"
export_to "$start" new_fine.safetensors "$work/fine/checkpoint.pt"
for net in coarse fine; do
  if [ -e "$work/$net/log.csv" ]; then
    cp "$work/$net/log.csv" "$out/$net.csv"
    tail -n 3 "$out/$net.csv"
  fi
done
echo "done: $SECONDS s"
exit "$failed"
