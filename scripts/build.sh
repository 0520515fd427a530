#!/usr/bin/env bash
# Configures and compiles a preset of CMakePresets.json, or named targets of it.
#
# usage: scripts/build.sh PRESET [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."

preset=$1
shift
targets=()
[[ $# -eq 0 ]] || targets=(--target "$@")
mkdir -p "build/$preset"
# CMake looks again by itself when one of its files changes.
if [[ ! -f build/$preset/build.ninja ]]; then
  echo "configuring $preset"
  log=build/$preset/configure.log
  cmake --preset "$preset" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
fi
echo "building $preset"
cmake --build --preset "$preset" --parallel "${JOBS:-$(nproc)}" "${targets[@]}"
