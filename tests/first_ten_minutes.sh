#!/usr/bin/env bash
# What a new user does in the first ten minutes, with the wheel in an environment of its own and without a network.
#
#   tests/first_ten_minutes.sh SNNC PYTHON [LIMIT]
#
# SNNC and PYTHON are the command and the interpreter of that environment. LIMIT: seconds that all of it may take (90).
# Every step says what must happen; the first one that does not ends the script.
set -euo pipefail

snnc=$(realpath -s "$1")
python=$(realpath -s "$2")
limit=${3:-90}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export PYTHONNOUSERSITE=1 NO_COLOR=1 LC_ALL=C
unset PYTHONPATH
start=$SECONDS

# Without a network, where the machine lets a process have none of its own; else with addresses that lead nowhere.
alone=()
if unshare --net --map-root-user true 2>/dev/null; then
    alone=(unshare --net --map-root-user)
    echo "network: none"
else
    export http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9
    echo "network: proxies that lead nowhere (no network namespaces here)"
fi

step() {
    printf '%3d s  $ %s\n' $((SECONDS - start)) "${*//$snnc/snnc}"
    "${alone[@]}" "$@" >out.txt 2>err.txt || fail "exit status $?"
}
refused() {
    local wanted=$1 found=0
    shift
    printf '%3d s  $ %s\n' $((SECONDS - start)) "${*//$snnc/snnc}"
    "${alone[@]}" "$@" >out.txt 2>err.txt || found=$?
    test "$found" -eq "$wanted" || fail "exit status $found, expected $wanted"
    test "$(grep -c '^error: SNN' err.txt)" -eq 1 || fail "not one error line"
}
says() { grep -qF -- "$1" out.txt err.txt || fail "does not say: $1"; }
has() { test -s "$1" || fail "did not write $1"; }
fail() {
    echo "FAILED: $1"
    tail -n 20 out.txt err.txt
    exit 1
}

step "$snnc" --version
says "snnc, version"
step "$snnc" --help
says "Examples"
step "$snnc" doctor
says "onnxruntime"

step "$snnc" init demo/
says "next:"
for name in vit.onnx cnn.onnx calib.npz labels.npy recipe.toml; do has "demo/$name"; done

step "$snnc" inspect demo/vit.onnx
says "supported"
step "$snnc" convert demo/vit.onnx --groups 4
says "written: demo/vit.snn.onnx"
says "] encode"
says "next:"
step "$snnc" convert demo/cnn.onnx --recipe demo/recipe.toml
step "$snnc" audit demo/vit.snn.onnx
says "multiplication-free"
step "$snnc" compare demo/vit.onnx demo/vit.snn.onnx --data demo/calib.npz
says "PASS"

step "$snnc" report demo/vit.snn.onnx --data demo/calib.npz --labels demo/labels.npy --source demo/vit.onnx \
    --measured 16 --verified 2 --trade-off 4:1 -o r.html
has r.html
has r.json
test "$(wc -c <r.html)" -le 2000000 || fail "the page is larger than 2 MB"
! grep -qE '(src|href)="https?:' r.html || fail "the page leads elsewhere"

step "$python" - <<'PYTHON'
import numpy
import onnxruntime

x = numpy.load("demo/calib.npz")["x"][:32]
(logits,) = onnxruntime.InferenceSession("demo/vit.snn.onnx").run(None, {"x": x})
right = (logits.argmax(axis=1) == numpy.load("demo/labels.npy")[:32]).mean()
assert right > 0.7, right
numpy.savez("few.npz", x=x[:2])
PYTHON

step "$snnc" emit demo/vit.snn.onnx -o bundle --data few.npz
step "$snnc" run bundle --runtime expg1 --input few.npz --output machine.npz
step "$snnc" run demo/vit.snn.onnx --input few.npz --output numpy.npz --trace spikes.npz
cmp machine.npz numpy.npz || fail "the machine gives other bits"
has spikes.npz

refused 2 "$snnc" convert demo/vit.onnx --gruops 4
says "--groups"
refused 3 "$snnc" convert demo/labels.npy
refused 3 "$snnc" convert demo/vit.onx
says "vit.onnx"
step "$python" - <<'PYTHON'
import onnx

text = '<ir_version: 10, opset_import: ["" : 17]> n (float[N, 4] x) => (float[N, 4] y) { [odd] y = Trilu(x) }'
onnx.save(onnx.parser.parse_model(text), "odd.onnx")
PYTHON
refused 4 "$snnc" convert odd.onnx --calibrate random:4
says "Trilu"
step "$snnc" explain SNN401

took=$((SECONDS - start))
echo "$took s of $limit s"
test "$took" -le "$limit" || fail "it took longer than $limit s"
