"""What the tools' own libraries see in the files that ``convert`` writes, and ``convert`` in theirs.

    python -m venv tools && tools/bin/pip install napari[pyqt6] label-studio-sdk cvat-sdk datumaro pycocotools nnunetv2 \
        simpleitk geojson shapely
    python -m benchmarks.real_tools run [--python tools/bin/python] [--out FILE]
    python -m benchmarks.real_tools write

``run`` draws three small label maps, converts them to each format, lets the tool's library open the result in INTERPRETER, and
compares pixel by pixel; then the other way round. ``write`` puts the outcome into docs/reference/formats.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.ops.page import table, write
from benchmarks.real_tools_side import NAMES, TOOLS, Maps, picture
from scribbleseg.atomic import write_text
from scribbleseg.data.convert import convert
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.formats.contents import Options
from scribbleseg.data.images import write_png
from scribbleseg.errors import ScribblesegError
from scribbleseg.provenance import provenance

ROOT = Path(__file__).parents[1]
SIDE = Path(__file__).with_name("real_tools_side.py")
RESULTS = ROOT / "benchmarks" / "results" / "real_tools.json"
PAGE = ROOT / "docs" / "reference" / "formats.md"

#: Our name of the format that a tool reads and writes.
FORMAT = {
    "napari": "napari",
    "Label Studio": "label-studio",
    "pycocotools": "coco",
    "datumaro, COCO": "coco",
    "CVAT": "cvat",
    "datumaro, CVAT": "cvat",
    "nnU-Net": "nnunet",
    "ITK": "nifti",
    "GeoJSON": "qupath",
}

SECONDS = 300


def drawn() -> Maps:
    """Return three label maps: strokes, lone pixels in all corners, rings, diagonals, touching classes; of two sizes."""
    maps = {}
    for number, (height, width) in enumerate([(40, 56), (40, 56), (33, 47)]):
        rng = np.random.default_rng(number)
        labels = np.full((height, width), 255, np.uint8)
        for k in range(len(NAMES)):
            top, left = int(rng.integers(2, 12)), int(rng.integers(2, 12)) + 12 * k
            labels[top : top + 9, left : left + 9] = k
            labels[top + 3 : top + 6, left + 3 : left + 6] = 255
            labels[top + 4, left + 4] = (k + 1) % len(NAMES)
            steps = np.arange(8)
            labels[22 + steps, 3 + 14 * k + steps] = k
        labels[[0, 0, -1, -1], [0, -1, 0, -1]] = [0, 1, 2, 0]
        maps[f"plant{number}"] = labels
    return maps


def make_dataset(root: Path, maps: Maps) -> Path:
    """Write the maps as a data set of ours, with pictures."""
    for stem, labels in maps.items():
        write_png(root / f"images/{stem}.png", picture(labels))
        write_png(root / f"scribbles/{stem}.png", labels)
    (root / "train.txt").write_text("\n".join(maps) + "\n", encoding="utf-8")
    tree = {"name": "plants", "names": dict(enumerate(NAMES)), "splits": {"train": "train.txt"}}
    (root / "dataset.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return root


def verdict(expected: Maps, found: Maps) -> str:
    """Say in how many images every pixel is the same."""
    same = sum(stem in found and np.array_equal(found[stem], labels) for stem, labels in expected.items())
    return f"{same} of {len(expected)} the same"


def side(python: str, what: str, tool: str, folder: Path, file: Path) -> dict[str, Any]:
    """Run the tool, and return what it says of itself; ``error`` where it failed."""
    words = [python, str(SIDE), what, tool, str(folder), str(file)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, cwd=folder)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def opened_by(python: str, tool: str, root: Path, expected: Maps, place: Path) -> dict[str, Any]:
    """Let a tool open what we wrote."""
    folder = place / "Dataset001_ours"
    convert(root, folder, target=FORMAT[tool])
    told = side(python, "open", tool, folder, place / "seen.npz")
    if "error" in told or told.get("version", "") is None:
        return told
    with np.load(place / "seen.npz") as stored:
        return told | {"outcome": verdict(expected, {stem: stored[stem] for stem in stored.files})}


def written_by(python: str, tool: str, root: Path, expected: Maps, place: Path) -> dict[str, Any]:
    """Open what a tool wrote."""
    folder = place / "Dataset002_theirs"
    folder.mkdir()
    np.savez(place / "given.npz", **expected)
    told = side(python, "write", tool, folder, place / "given.npz")
    if "error" in told or told.get("version", "") is None:
        return told
    try:
        options = Options(images=None if tool in ("nnU-Net", "GeoJSON") else root / "images", names=NAMES)
        source = folder / "made" if (folder / "made").is_dir() else folder
        if FORMAT[tool] == "nifti":
            for stem in expected:  # a picture beside the labels, as volumes need one
                convert_picture(root, stem, folder)
            options = Options(names=NAMES)
        convert(source, place / "back", options, source=FORMAT[tool])
    except ScribblesegError as error:
        return told | {"error": str(error)}
    dataset = open_dataset(place / "back")
    return told | {"outcome": verdict(expected, {stem: dataset.labels(stem, "scribbles") for stem in dataset.stems("train")})}


def convert_picture(root: Path, stem: str, folder: Path) -> None:
    """Put a grey picture beside a label volume."""
    import nibabel

    grey = (255 * open_dataset(root).rgb(stem)[..., 0]).round().astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(grey.T[..., None], np.eye(4)), folder / f"{stem}.nii.gz")


def run(python: str) -> dict[str, Any]:
    """Return a row for each tool."""
    expected, rows = drawn(), []
    for tool in TOOLS:
        row: dict[str, Any] = {"tool": tool, "format": FORMAT[tool]}
        for key, work in (("opens_ours", opened_by), ("we_open", written_by)):
            with tempfile.TemporaryDirectory() as place:
                told = work(python, tool, make_dataset(Path(place) / "plants", expected), expected, Path(place))
            row |= {k: told[k] for k in ("package", "version", "used") if k in told}
            row[key] = told.get("outcome") or told.get("error") or "not installed"
        print(row, file=sys.stderr)
        rows.append(row)
    return {"rows": rows, "images": len(expected), "provenance": provenance()}


def lines(result: dict[str, Any]) -> list[str]:
    """Return the page's table."""
    head = ["`--to`, `--from`", "library", "version", "what is used of it", "it opens ours", "we open its"]
    rows = [
        [f"`{row['format']}`", *(str(row.get(k) or "?") for k in ("package", "version", "used", "opens_ours", "we_open"))]
        for row in result["rows"]
    ]
    words = (
        f"{result['images']} label maps of three classes, pixel by pixel, on {result['provenance']['date'][:10]} "
        f"(commit {str(result['provenance']['commit'])[:7]}):"
    )
    return [words, "", *table(head, rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "write"])
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has the tools")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.what == "run":
        write_text(given.out, json.dumps(run(given.python), indent=1, ensure_ascii=False) + "\n")
    else:
        write({"real_tools": lines(json.loads(given.out.read_text(encoding="utf-8")))}, PAGE)


if __name__ == "__main__":
    main()
