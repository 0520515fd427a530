#!/usr/bin/env bash
# Builds and runs tests, and ends with a line that counts their cases.
#
# usage: scripts/test.sh [PRESET...]
# Without arguments: all tests in release, then unit and integration tests under asan. What a preset
# runs stands in CMakePresets.json.
set -euo pipefail
cd "$(dirname "$0")/.."

presets=("$@")
[[ ${#presets[@]} -gt 0 ]] || presets=(release asan)
scripts/install_dependencies.sh build test
scripts/setup_venv.sh

status=0
results=()
for preset in "${presets[@]}"; do
  scripts/build.sh "$preset"
  echo "testing $preset"
  result=build/$preset/test-results.xml
  rm -f "$result"
  ctest --preset "$preset" --parallel "${JOBS:-$(nproc)}" </dev/null || status=1
  results+=("$result")
  [[ $status -eq 0 ]] || break
done
python3 tests/support/summarize_tests.py "${results[@]}" || status=1
exit "$status"
