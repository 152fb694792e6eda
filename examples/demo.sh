#!/usr/bin/env bash
# The main job, start to end, on a model shipped in this repository. `make demo` runs it; `make demo DEMO=ge2mst`
# takes a spiking transformer, a small Ge2mS-T, in place of the CNN.
# Each command is printed before it runs; nothing here needs torch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=${1:-cnn}
sample=examples/models/fashion_sample.npz
out=out/demo
rm -rf "$out"
mkdir -p "$out"
case "$name" in
    cnn) model=examples/models/fashion_cnn_t4g2.onnx kind="a residual CNN" ;;
    ge2mst)
        model=examples/models/fashion_ge2mst_t4g2.onnx kind="a small Ge2mS-T"
        # It takes 32 x 32 pixels: a border of zeros around 28 x 28.
        python -c 'import sys, numpy as np
held = dict(np.load(sys.argv[1])); held["x"] = np.pad(held["x"][:64], ((0, 0), (0, 0), (2, 2), (2, 2)))
np.savez(sys.argv[2], x=held["x"], labels=held["labels"][:64])' "$sample" "$out/sample.npz"
        sample=$out/sample.npz
        ;;
    *) echo "there is no demonstration $name: cnn, ge2mst" >&2; exit 2 ;;
esac

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
if [ ! -t 1 ] || [ -n "${NO_COLOR:-}" ]; then say() { printf '\n%s\n' "$*"; }; fi
try() { printf '$ %s\n' "$*"; "$@"; }

say "1. A trained network: $kind, quantised to 4 time-steps and 2 groups while it was trained"
try snnc inspect "$model"

say "2. Convert it to a spiking network: integers only, at most two spikes per neuron and image"
try snnc convert "$model" --timesteps 4 --groups 2 -o "$out/$name.snn.onnx" --calibrate "$sample"

say "3. Run it on Fashion-MNIST test images in three ways"
try snnc run "$out/$name.snn.onnx" --input "$sample" --output "$out/packed.npz" --runtime numpy
try snnc run "$out/$name.snn.onnx" --input "$sample" --output "$out/timestep.npz" --runtime numpy-timestep
try snnc run "$out/$name.snn.onnx" --input "$sample" --output "$out/ort.npz" --runtime ort

say "4. The three outputs are the same bits: whole window at once, spike by spike, onnxruntime"
try cmp "$out/packed.npz" "$out/timestep.npz"
try cmp "$out/packed.npz" "$out/ort.npz"
echo "identical"

say "5. Check every code of every layer, and the accuracy, against the quantised network"
try snnc verify "$model" "$out/$name.snn.onnx" --data "$sample" --labels "$sample"

say "6. What it costs: spikes, synaptic operations, energy"
try snnc inspect "$out/$name.snn.onnx" --data "$sample"

say "Done. The spiking network is $out/$name.snn.onnx: open it in any onnxruntime, or in Netron."
