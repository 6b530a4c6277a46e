#!/usr/bin/env bash
# Builds the wheel as a user would, in isolation, and tries it in an environment that has this wheel and, from .venv,
# nothing but its dependencies.
set -euo pipefail
cd "$(dirname "$0")/.."

rm -rf dist build/wheel-venv
python -m build --wheel
python -m venv --without-pip build/wheel-venv
python -m pip --python build/wheel-venv/bin/python install --quiet --no-deps dist/*.whl
tools/lend_packages.sh build/wheel-venv
cd build/wheel-venv
bin/python -c 'import sucrose, torchsnapshot, lattice_addons; print(sucrose.__file__, sucrose.build_info())'
bin/sucrose --help >/dev/null
bin/sucrose report "$OLDPWD/examples/digits" -o report.html # its templates are in the wheel
# What is read at Python's start is in place: a value that is not allowed is an error of the import of torch.
if LATTICE_AUTOPATCH=jax bin/python -c 'import torch' 2>/dev/null; then
  echo "LATTICE_AUTOPATCH has no effect: sucrose_autopatch.pth is missing in the wheel" >&2
  exit 1
fi
