#!/usr/bin/env bash
# Native tests under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer; then pytest with an extension
# built with AddressSanitizer, in an environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/native_tests.sh asan
tools/native_tests.sh tsan

environment=build/asan-venv
rm -rf $environment
python -m venv --without-pip $environment
tools/lend_packages.sh $environment
python -m pip --python $environment/bin/python install --quiet --no-deps --no-build-isolation \
  -C build-dir=build/asan-module -C cmake.build-type=RelWithDebInfo -C install.strip=false \
  -C cmake.define.SUCROSE_SANITIZE=address .

# Python was built without the sanitizer: its runtime has to come first, with the C++ library whose exceptions it
# watches, and leaks are not looked for, as most of them are Python's own. Benchmarks have nothing to say here.
SUCROSE_FAKE_CUDA_LIBRARY=build/asan/tests/native/libfake_cuda.so \
  LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
  $environment/bin/python -m pytest --ignore tests/package/test_benchmarks.py
