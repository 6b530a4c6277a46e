#!/usr/bin/env bash
# Every check that needs no run of the program.
#
#   tools/lint.sh          reports
#   tools/lint.sh --fix    rewrites what can be rewritten, then reports
set -euo pipefail

mapfile -t cpp < <(git ls-files --cached --others --exclude-standard '*.cpp' '*.h')

if [[ ${1:-} == --fix ]]; then
  ruff check --fix --quiet . || true # what is left is reported below
  ruff format --quiet .
  clang-format -i "${cpp[@]}"
fi

status=0
ruff check . || status=1
ruff format --check . || status=1
clang-format --dry-run -Werror "${cpp[@]}" || status=1
mypy || status=1
MYPYPATH=python stubtest --allowlist tools/stubtest_allowlist.txt sucrose._core || status=1
exit $status
