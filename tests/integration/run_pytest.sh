#!/usr/bin/env bash
# Runs pytest on the given files in the project's virtual environment; 77 (skipped) without one.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$root/build/venv/bin/python
if [ ! -x "$python" ]; then
  echo "SKIPPED: $python is missing; scripts/setup_venv.sh makes it"
  exit 77
fi
exec "$python" -m pytest -q -p no:cacheprovider --rootdir "$root/tests/integration" "$@"
