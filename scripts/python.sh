#!/usr/bin/env bash
# Prints the path of the Python of the checkout's virtual environment, made once with what tests and demo need.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
cache=${ROOST_CACHE:-$here/.cache}
venv="$cache/venv"
stamp="$venv/.made-from-$(sha256sum <"$here/Acceptance/requirements.txt" | cut -c1-16)"
if [ ! -f "$stamp" ]; then
    echo "python: making a virtual environment with the clients the tests use" >&2
    python=$(command -v /usr/bin/python3 || command -v python3)
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --requirement "$here/Acceptance/requirements.txt"
    touch "$stamp"
fi
echo "$venv/bin/python"
