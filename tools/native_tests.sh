#!/usr/bin/env bash
# Builds and runs the native tests.
#
#   tools/native_tests.sh PRESET    dev, release, asan or tsan
set -euo pipefail

cmake --preset "$1"
cmake --build --preset "$1"
ctest --preset "$1"
