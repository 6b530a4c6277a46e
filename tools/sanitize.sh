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

# Python itself was built without the sanitizer, so its runtime has to come first, and its leaks are not ours.
# The tests also fork, and map more address space than the sanitizer would allow.
LD_PRELOAD=$(g++ -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 \
  $environment/bin/python -m pytest
