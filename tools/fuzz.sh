#!/usr/bin/env bash
# Fuzzes everything that is parsed from a disk, FUZZ_SECONDS (60) for each target: those of tests/fuzz/native by
# libFuzzer, those of tests/fuzz/fuzz_targets by atheris. Native code has AddressSanitizer in it either way.
#
#   tools/fuzz.sh [TARGET...]    all of them, if none is named
#
# Needs clang. Ends with an error where anything was found; the inputs are in build/fuzzing/findings then.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/system_packages.sh clang
tools/system_packages.sh "libclang-rt-$(clang++ -dumpversion | cut -d. -f1)-dev"

seconds=${FUZZ_SECONDS:-60}
native=(decoder round_trip extents)
targets=("$@")
if ((${#targets[@]} == 0)); then
  mapfile -t targets < <(printf '%s\n' "${native[@]}" && PYTHONPATH=tests/fuzz python -c '
from fuzz_targets import TARGETS
print("\n".join(TARGETS))')
fi

cmake --preset fuzz
cmake --build --preset fuzz

# libatomic: what g++ does in place, clang leaves to the library.
environment=build/fuzz-venv
rm -rf $environment
python -m venv --without-pip $environment
tools/lend_packages.sh $environment
python -m pip --python $environment/bin/python install --quiet --no-deps --no-build-isolation \
  -C build-dir=build/fuzz-module -C cmake.build-type=RelWithDebInfo -C install.strip=false \
  -C cmake.define.CMAKE_CXX_COMPILER=clang++ -C cmake.define.SUCROSE_SANITIZE=address \
  -C cmake.define.CMAKE_MODULE_LINKER_FLAGS=-latomic .

# What Python allocates by itself is not looked at for leaks; a size that cannot be had is an error, not the end.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
runtime=$(python -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so

found=0
mkdir -p build/fuzzing/findings
for target in "${targets[@]}"; do
  log=build/fuzzing/$target.log
  options=(-max_total_time="$seconds" -print_final_stats=1 -timeout=20)
  status=0
  if [[ " ${native[*]} " == *" $target "* ]]; then
    mkdir -p "build/fuzzing/$target"
    build/fuzz/tests/fuzz/native/"fuzz_$target" "${options[@]}" -max_len=9000 \
      -artifact_prefix="build/fuzzing/findings/$target-" "build/fuzzing/$target" "tests/fuzz/corpus/$target" \
      >"$log" 2>&1 || status=$?
  else
    LD_PRELOAD=$runtime $environment/bin/python -W ignore tests/fuzz/fuzz.py "$target" "${options[@]}" \
      >"$log" 2>&1 || status=$?
  fi
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  if ((status)); then
    found=1
    echo "$target: FOUND SOMETHING after ${executions:-?} executions, see $log and build/fuzzing/findings"
  else
    echo "$target: $executions executions in $seconds s, nothing found"
  fi
done
exit $found
