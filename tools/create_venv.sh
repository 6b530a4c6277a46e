#!/usr/bin/env bash
# Creates .venv with torch and what builds the package; .venv/created marks it as complete.
set -euo pipefail

rm -rf .venv
"${PYTHON:-python3}" -m venv .venv
# Unquoted: TORCH may carry options of pip.
.venv/bin/python -m pip install --quiet ${TORCH:-torch}
.venv/bin/python -m pip install --quiet 'scikit-build-core>=0.11' 'pybind11>=2.13' cmake ninja
touch .venv/created
