#!/usr/bin/env bash
# Native tests under ThreadSanitizer, AddressSanitizer and UndefinedBehaviorSanitizer; then pytest with extensions built
# with them, in environments of their own: the tests of the engine with the first, all tests with the other two.
#
#   tools/sanitize.sh [TESTS...]    under the other two only these files and folders
#
# Python was built without sanitizers: their runtime has to come first. A finding ends its process; what it was is seen
# with --capture=sys alone.
set -euo pipefail
cd "$(dirname "$0")/.."

# The extension is built beside the native tests, which have the core compiled already.
create_environment() { # PRESET SANITIZERS
  rm -rf "build/$1-venv"
  python -m venv --without-pip "build/$1-venv"
  tools/lend_packages.sh "build/$1-venv"
  python -m pip --python "build/$1-venv/bin/python" install --quiet --no-deps --no-build-isolation \
    -C build-dir="build/$1" -C cmake.build-type=RelWithDebInfo -C install.strip=false \
    -C cmake.define.SUCROSE_SANITIZE="$2" -C cmake.define.SUCROSE_BUILD_MODULE=ON .
}

tools/native_tests.sh tsan
tools/native_tests.sh asan

# One thread of torch's: it does not see how those of OpenMP wait for one another, and takes that for races.
create_environment tsan thread
SUCROSE_FAKE_CUDA_LIBRARY=build/tsan/tests/native/libfake_cuda.so OMP_NUM_THREADS=1 TSAN_OPTIONS=halt_on_error=1 \
  LD_PRELOAD="$(g++ -print-file-name=libtsan.so)" build/tsan-venv/bin/python -m pytest --capture=sys tests/engine

# Benchmarks have nothing to say here. Freed memory is kept for a while, to see who still uses it: a process grows.
left_out=(
  --ignore tests/package/test_benchmarks.py
  --deselect tests/faults/test_thousand_saves.py::test_a_process_does_not_grow_with_its_saves
)

# With the C++ library whose exceptions the sanitizer watches. Leaks are not looked for, as most of them are Python's
# own. Memory that cannot be had is an error that tests look for, not the end. A lost process of pytest's is not
# replaced: its tests would be waited for without an end.
create_environment asan address,undefined
export SUCROSE_FAKE_CUDA_LIBRARY=build/asan/tests/native/libfake_cuda.so
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)" build/asan-venv/bin/python -m pytest \
  --numprocesses logical --maxprocesses 8 --dist loadfile --max-worker-restart 0 --capture=sys "${left_out[@]}" "$@"
