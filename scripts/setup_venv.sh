#!/usr/bin/env bash
# Makes build/venv, the Python of the tests, with the packages of tests/requirements.txt. Does
# nothing, and needs no network, when it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=tests/requirements.txt
venv=build/venv
# A copy of what was installed, beside the packages.
stamp=$venv/requirements.txt
if cmp --silent "$requirements" "$stamp" && "$venv/bin/python" -c '' 2>/dev/null; then
  exit 0
fi
echo "installing the tests' Python packages into $venv"
python3 -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
cp "$requirements" "$stamp"
