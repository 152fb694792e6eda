#!/usr/bin/env bash
# The native operators' tests under the address and undefined-behaviour sanitizers.
#   runtimes/native/sanitize.sh                    all of them, in parts; a line for each, the verdict at the end
#   runtimes/native/sanitize.sh --keep FOLDER      the same; what ended there clean is not run again, so that a run
#                                                  that was broken off goes on (changed sources start from the beginning)
#   runtimes/native/sanitize.sh PYTEST_ARGUMENTS   only these
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python}
if [ "${1:-}" = --keep ]; then
  folder=$(mkdir -p "$2" && cd "$2" && pwd)
  shift 2
else
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
fi
library=$folder/libsnnc_ort.so

# The interpreter is not instrumented, so the runtimes come first; what Python and onnxruntime keep is no leak of ours.
preload=
for name in libasan.so libubsan.so; do
  found=$(${CXX:-c++} -print-file-name=$name)
  [ -e "$found" ] || { echo "${CXX:-c++} has no $name: install it, or name another compiler by CXX" >&2; exit 1; }
  preload+="$found "
done
sanitized() {
  LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0:protect_shadow_gap=0 UBSAN_OPTIONS=print_stacktrace=1 \
    SNNC_NATIVE=$library "$python" "$@"
}
run() { sanitized -m pytest -q -p no:cacheprovider -o timeout=0 -m "slow or not slow" "$@"; }

current='import sys; from pathlib import Path; from snnc.runtimes.native.build import is_current
sys.exit(not is_current(Path(sys.argv[1])))'
if ! "$python" -c "$current" "$library"; then
  rm -f "$folder"/clean.*
  "$python" runtimes/native/build.py --sanitize --output "$library"
fi
# Tests skip where there is no library: that would look clean.
sanitized -c "import onnxruntime; from snnc.runtimes import ort; assert ort.register(onnxruntime.SessionOptions())"

if [ $# -gt 0 ]; then
  run "$@"
  exit
fi
kernels=tests/runtimes/test_native_kernels.py
malformed=tests/runtimes/test_native_malformed.py
status=0
part() {
  local done="$folder/clean.${1//[^a-z0-9]/_}" start=$SECONDS
  if [ -e "$done" ]; then
    cat "$done"
  elif run "${@:2}" > "$folder/part.txt" 2>&1; then
    echo "clean: $1, $((SECONDS - start)) s: $(tail -1 "$folder/part.txt")" | tee "$folder/part.clean"
    mv "$folder/part.clean" "$done"
  else
    status=1
    echo "FAILED: $1"
    tail -40 "$folder/part.txt"
  fi
}
# The widest instruction set of the machine, then the narrower ones.
sets=baseline
has() { grep -qw "$1" /proc/cpuinfo 2> /dev/null; }
has avx2 && sets="avx2 $sets"
has avx512dq && sets="avx512 $sets"
has avx512_vnni && sets="avx512-vnni $sets"
has amx_int8 && sets="amx $sets"
echo "instruction sets: $sets"
for isa in $sets; do
  export SNNC_NATIVE_ISA=$isa
  part "values, $isa" tests/runtimes/test_native_values.py
  part "products, $isa" "$kernels" -k "products_of_all_sizes"
  part "thresholds, $isa" "$kernels" -k "every_threshold and not instruction"
  part "the rest of the kernels, $isa" "$kernels" \
    -k "not every_threshold and not products_of_all_sizes and not instruction"
  part "convolutions, $isa" tests/runtimes/test_native_convolutions.py
  part "windows of attention, $isa" tests/runtimes/test_native_windows.py
  part "some malformed nodes, $isa" "$malformed" -k "not test_all"
done
unset SNNC_NATIVE_ISA
part "the library" tests/runtimes/test_native.py
for test in $("$python" -m pytest -q --collect-only -m slow "$malformed" | grep '::test_all\['); do
  part "malformed nodes, ${test##*::}" "$test"
done
[ $status = 0 ] && echo "no finding of the address and undefined-behaviour sanitizers"
exit $status
