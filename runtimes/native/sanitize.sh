#!/usr/bin/env bash
# The native operators' tests under the address and undefined-behaviour sanitizers.
#   runtimes/native/sanitize.sh                      all of them, in parts; a line for each, the verdict at the end
#   runtimes/native/sanitize.sh PYTEST_ARGUMENTS     only these
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python runtimes/native/build.py --sanitize --output "$folder/libsnnc_ort.so"

# The interpreter is not instrumented, so the runtime comes first; what Python and onnxruntime keep is no leak of ours.
run() {
  LD_PRELOAD="$(${CXX:-c++} -print-file-name=libasan.so) $(${CXX:-c++} -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0:protect_shadow_gap=0 SNNC_NATIVE="$folder/libsnnc_ort.so" \
    python -m pytest -q -p no:cacheprovider -o timeout=0 -m "slow or not slow" "$@"
}

if [ $# -gt 0 ]; then
  run "$@"
  exit
fi
kernels=tests/runtimes/test_native_kernels.py
malformed=tests/runtimes/test_native_malformed.py
status=0
part() {
  if run "${@:2}" > "$folder/part.txt" 2>&1; then
    echo "clean: $1: $(tail -1 "$folder/part.txt")"
  else
    status=1
    echo "FAILED: $1"
    tail -40 "$folder/part.txt"
  fi
}
part "all malformed nodes" "$malformed" -k "test_all"
# The widest instruction set of the machine, then the narrower ones; those that it lacks are the widest again.
for isa in amx baseline avx2 avx512; do
  export SNNC_NATIVE_ISA=$isa
  part "values, $isa" tests/runtimes/test_native_values.py
  part "products, $isa" "$kernels" -k "products_of_all_sizes"
  part "thresholds, $isa" "$kernels" -k "every_threshold and not instruction"
  part "the rest of the kernels, $isa" "$kernels" \
    -k "not every_threshold and not products_of_all_sizes and not instruction"
  part "convolutions, $isa" tests/runtimes/test_native_convolutions.py
  part "some malformed nodes, $isa" "$malformed" -k "not test_all"
done
[ $status = 0 ] && echo "no finding of the address and undefined-behaviour sanitizers"
exit $status
