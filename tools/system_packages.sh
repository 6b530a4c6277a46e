#!/usr/bin/env bash
# Installs the system packages a build needs, those that are missing: through apt where that is allowed; where it is
# not, one line says what to install. A build can do without liburing-dev, the tests without redis-server and chromium.
#
#   tools/system_packages.sh [PACKAGE...]    also these, such as doctest-dev or fio
set -euo pipefail

python=${PYTHON:-python3}

has_header() { g++ -E -include "$1" -x c++ /dev/null; }
has_library() { [[ $(g++ -print-file-name="$1") == */* ]]; }
fuzzer='extern "C" int LLVMFuzzerTestOneInput(const unsigned char *, decltype(sizeof 0)) { return 0; }'

is_present() {
  case $1 in
    g++) g++ --version ;;
    python3-venv) "$python" -c 'import ensurepip, venv' ;;
    python3-dev) "$python" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' ;;
    libzstd-dev) has_header zstd.h && has_library libzstd.a ;;
    libxxhash-dev) has_header xxhash.h ;;
    liburing-dev) has_header liburing.h ;;
    doctest-dev) has_header doctest/doctest.h ;;
    fio) fio --version ;;
    ccache) ccache --version ;;
    zstd) zstd --version ;;
    redis-server) redis-server --version ;;
    clang) clang++ --version ;;
    libclang-rt-*-dev) clang++ -fsanitize=fuzzer -o /dev/null -x c++ - <<<"$fuzzer" ;;
    chromium) command -v chromium chromium-browser google-chrome ;;
    *) return 1 ;;
  esac >/dev/null 2>&1
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

required=() optional=()
for package in g++ python3-venv python3-dev libzstd-dev libxxhash-dev liburing-dev "$@"; do
  is_present "$package" && continue
  case $package in
    liburing-dev | redis-server | chromium | zstd | ccache) optional+=("$package") ;;
    *) required+=("$package") ;;
  esac
done
((${#required[@]} + ${#optional[@]})) || exit 0

if command -v apt-get >/dev/null && as_root true 2>/dev/null; then
  install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "$@"; }
  as_root apt-get update -q
  ((${#required[@]} == 0)) || install "${required[@]}"
  for package in "${optional[@]}"; do
    install "$package" || echo "$package cannot be installed here; what needs it is left out" >&2
  done
elif ((${#required[@]})); then
  echo "Missing system packages; please run: sudo apt-get install ${required[*]} ${optional[*]}" >&2
  exit 1
fi
