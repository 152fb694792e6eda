#!/usr/bin/env bash
# The native operators' tests under the address and undefined-behaviour sanitizers.
#   runtimes/native/sanitize.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python runtimes/native/build.py --sanitize --output "$folder/libsnnc_ort.so"
# The interpreter is not instrumented, so the runtime comes first; what Python and onnxruntime keep is no leak of ours.
LD_PRELOAD="$(${CXX:-c++} -print-file-name=libasan.so) $(${CXX:-c++} -print-file-name=libubsan.so)" \
  ASAN_OPTIONS=detect_leaks=0:protect_shadow_gap=0 SNNC_NATIVE="$folder/libsnnc_ort.so" \
  python -m pytest -q -p no:cacheprovider "${@:-tests/runtimes/test_native_kernels.py}"
