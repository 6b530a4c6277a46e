#!/usr/bin/env bash
# Runs pytest, three processes for two cores: a fifth of the time they wait for programs that they have started. Each takes
# about 1 GiB of memory, and above eight the longest file of tests decides.
set -euo pipefail
cd "$(dirname "$0")/.."

export SUCROSE_FAKE_CUDA_LIBRARY=${SUCROSE_FAKE_CUDA_LIBRARY:-build/release/tests/native/libfake_cuda.so}

processes=$((($(nproc) * 3 + 1) / 2))
# tests/conftest.py has an order of its own; pytest-xdist knows how many tests a file has, and not how long they take.
run() { python -m pytest --numprocesses "$processes" --maxprocesses 8 --dist loadfile --no-loadscope-reorder "$@"; }

# First with the backend that serves where io_uring may not be used, for the tests to which it makes a difference.
status=0
SUCROSE_IO_BACKEND=threads run -m 'not large and not any_backend' \
  tests/catalog tests/cuda tests/engine tests/formats tests/snapshot || status=1
run || status=1
exit $status
