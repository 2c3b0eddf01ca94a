#!/usr/bin/env bash
# Run the tests in new environments: the oldest versions of what pyproject.toml names, and the newest on every Python we name.
#   release/versions.sh UV [KIND ...]      KIND: oldest, 3.12, 3.13 (all of them if none is given)
set -euo pipefail
uv=$(realpath "$1")
shift
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1
for kind in "${@:-oldest 3.12 3.13}"; do
    for each in $kind; do
        echo "== $each"
        python=$each options=(--constraints constraints.txt)
        if [ "$each" = oldest ]; then python=3.11 options=(--resolution lowest-direct); fi
        "$uv" venv --quiet --python "$python" --no-python-downloads "$work/$each"
        "$uv" pip install --quiet --python "$work/$each" "${options[@]}" --editable ".[test]"
        "$work/$each/bin/python" -m pytest -n 2 -q -W default -m "not slow and not browser"
    done
done
