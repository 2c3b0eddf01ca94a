#!/usr/bin/env bash
# Install the built wheel, and then the source distribution, as a user would: a new environment, another folder, no compiler; and use it.
#   release/clean_install.sh DIST PYTHON
set -euo pipefail
dist=$(realpath "$1")
python=${2:-python3}
constraints=$(realpath "$(dirname "$0")/../constraints.txt")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

export CC=false CXX=false PIP_CONSTRAINT=$constraints PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHONPATH
wheel=$(ls "$dist"/scribbleseg-*.whl)
source=$(ls "$dist"/scribbleseg-*.tar.gz)

"$python" -m venv new
new/bin/python -m pip install --quiet "$wheel[annotate]"
new/bin/python - <<'CODE'
import sys
from importlib.resources import files

import scribbleseg

assert scribbleseg.__file__.startswith(sys.prefix), scribbleseg.__file__
for name in ("py.typed", "templates/report.js", "annotate/static/index.html", "napari/napari.yaml"):
    assert (files("scribbleseg") / name).is_file(), f"the wheel lacks {name}"
CODE
new/bin/scribbleseg --help >/dev/null
new/bin/scribbleseg doctor | tail -15
new/bin/scribbleseg demo --out demo --max-steps 3 >demo.log 2>&1 || { cat demo.log; exit 1; }
test -s demo/report.html
{ new/bin/scribbleseg serve demo/dfr 2>&1 || true; } | grep -q 'scribbleseg\[serve\]' || { echo "serve does not say what it lacks"; exit 1; }

# The source distribution makes the same package.
new/bin/python -m pip wheel --quiet --no-deps --wheel-dir again "$source"
new/bin/python - "$wheel" again/*.whl <<'CODE'
import sys
import zipfile


def contents(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")}


first, second = map(contents, sys.argv[1:])
assert first == second, sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
CODE
echo "packages: wheel and source distribution installed and used without a compiler, $("$python" --version)"
