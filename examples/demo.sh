#!/usr/bin/env bash
# The main job, start to end, on a model shipped in this repository. `make demo` runs it.
# Each command is printed before it runs; nothing here needs torch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

model=examples/models/fashion_cnn_t4g2.onnx
sample=examples/models/fashion_sample.npz
out=out/demo
rm -rf "$out"
mkdir -p "$out"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
if [ ! -t 1 ] || [ -n "${NO_COLOR:-}" ]; then say() { printf '\n%s\n' "$*"; }; fi
try() { printf '$ %s\n' "$*"; "$@"; }

say "1. A trained network: a residual CNN, quantised to 4 time-steps and 2 groups while it was trained"
try snnc inspect "$model"

say "2. Convert it to a spiking network: integers only, at most two spikes per neuron and image"
try snnc convert "$model" --timesteps 4 --groups 2 -o "$out/cnn.snn.onnx" --calibrate "$sample"

say "3. Run it on Fashion-MNIST test images in three ways"
try snnc run "$out/cnn.snn.onnx" --input "$sample" --output "$out/packed.npz" --runtime numpy
try snnc run "$out/cnn.snn.onnx" --input "$sample" --output "$out/timestep.npz" --runtime numpy-timestep
try snnc run "$out/cnn.snn.onnx" --input "$sample" --output "$out/ort.npz" --runtime ort

say "4. The three outputs are the same bits: whole window at once, spike by spike, onnxruntime"
try cmp "$out/packed.npz" "$out/timestep.npz"
try cmp "$out/packed.npz" "$out/ort.npz"
echo "identical"

say "5. Check every code of every layer, and the accuracy, against the quantised network"
try snnc verify "$model" "$out/cnn.snn.onnx" --data "$sample" --labels "$sample"

say "6. What it costs: spikes, synaptic operations, energy"
try snnc inspect "$out/cnn.snn.onnx" --data "$sample"

say "Done. The spiking network is $out/cnn.snn.onnx: open it in any onnxruntime, or in Netron."
