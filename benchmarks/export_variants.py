"""What an exported model loses in each precision, and what it gains: trained networks on real pictures.

python -m benchmarks.export_variants --runs RUN,RUN --data DATA     # measures
python -m benchmarks.export_variants --write                        # puts the table into docs/how-to/export.md
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.ops import page, record
from benchmarks.ops.measure import RESULTS, ROOT
from scribbleseg.config import load_record
from scribbleseg.data.folder import open_dataset
from scribbleseg.export.onnx import NUM_TYPICAL, export_onnx
from scribbleseg.export.parity import Parity, as_8_bit, compare
from scribbleseg.export.precision import to_float16, to_int8
from scribbleseg.models.folder import TrainedModel, load_model
from scribbleseg.runner import Runner

NAME = "export_variants"
PAGE = ROOT / "docs" / "how-to" / "export.md"

#: What is done to the float32 file, and which limits it is held to.
VARIANTS: dict[str, tuple[str, Callable[[Path, list[np.ndarray]], None]]] = {
    "float32": ("float32", lambda path, typical: None),
    "float16": ("float16", lambda path, typical: to_float16(path)),
    "int8, weights": ("int8", lambda path, typical: to_int8(path, None)),
    "int8, `--calibration`": ("int8", lambda path, typical: to_int8(path, typical)),
}


def pictures(root: Path, split: str, number: int) -> Iterator[np.ndarray]:
    """Yield pictures of a split, evenly, with 8 bits."""
    dataset = open_dataset(root)
    stems = dataset.stems(split)
    for stem in stems[:: max(1, len(stems) // number)][:number]:
        yield as_8_bit(dataset.rgb(stem))


def measure(run: Path, data: Path, number: int, threads: int, timed: bool) -> dict[str, Any]:
    """Return how each variant of a run's model differs from it on pictures of the validation split."""
    config = load_record(run)
    assert config.data.root is not None, run
    root = data / config.data.root.name
    model, typical = load_model(run), list(pictures(root, config.data.train_split, NUM_TYPICAL))
    compared = list(pictures(root, config.data.val_split, number))
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "float32"
        export_onnx(run, first, num_images=1)
        for name, (precision, change) in VARIANTS.items():
            path = Path(folder) / "model.onnx"
            shutil.copyfile(first / "model.onnx", path)
            change(path, typical)
            found[name] = as_dict(compare(model, Runner(path, threads).probabilities, compared, precision, path), timed)
    return {"run": run.name, "network": network(model), "data": root.name, "pictures": len(compared), "variants": found}


def network(model: TrainedModel) -> str:
    """Return a network's name for the table."""
    kind = model.segmenter.backbone.settings["model_type"]
    million = sum(p.numel() for p in model.segmenter.parameters()) / 1e6
    return f"{'U-Net' if kind == 'unet' else kind}, {million:.1f} M weights, {model.longest_px or model.window_px} px"


def as_dict(parity: Parity, timed: bool = True) -> dict[str, Any]:
    """Return a finding with whether it is within its limits, without its times where the machine was busy."""
    return asdict(parity) | {"kept": parity.kept} | ({} if timed else {"ms": None, "original_ms": None})


def time(ms: float | None) -> str:
    """Return a time for the table."""
    return "–" if ms is None else page.number(ms)


def run(*, runs: Sequence[Path], data: Path, pictures: int, threads: int, timed: bool = True) -> dict[str, Any]:
    """Measure every run."""
    return {"peers": {}, "rows": [measure(folder, data, pictures, threads, timed) for folder in runs]}


def table(result: Mapping[str, Any]) -> list[str]:
    """Return the page's lines."""
    lines = []
    for row in result["rows"]:
        first = row["variants"]["float32"]
        lines.append(
            [
                f"{row['network']}; {row['data']}, {row['pictures']} pictures",
                "PyTorch",
                "–",
                time(first["original_ms"]),
                "–",
                "–",
                "–",
                "",
            ]
        )
        for name, found in row["variants"].items():
            lines.append(
                [
                    "",
                    name,
                    f"{found['size_mb']:.1f}",
                    time(found["ms"]),
                    f"{found['difference']:.1g}",
                    f"{found['other']:.3%}",
                    f"{found['miou']:.4f}",
                    "yes" if found["kept"] else "**no**",
                ]
            )
    head = [
        "network and pictures",
        "file",
        "MB",
        "ms a picture",
        "largest difference of a probability",
        "pixels of another class",
        "mIoU of the masks",
        "within the limits",
    ]
    return [page.origin(result), "", *page.table(head, lines)]


def main() -> None:
    """Measure, or write the table."""
    parser = argparse.ArgumentParser(description="Measure what exported models lose in each precision.")
    parser.add_argument("--runs", type=lambda text: [Path(p) for p in text.split(",")], help="run folders, with commas between")
    parser.add_argument("--data", type=Path, help="folder of their data sets")
    parser.add_argument("--pictures", type=int, default=32, help="of the validation split, to compare on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS.parent / f"{NAME}.json")
    parser.add_argument("--untimed", action="store_true", help="leave the times out: the machine is busy")
    parser.add_argument("--write", action="store_true", help="put the table of the JSON file into the page")
    given = parser.parse_args()
    if given.runs:
        if given.data is None:
            parser.error("--runs needs --data")
        torch.set_num_threads(given.threads)
        found = run(runs=given.runs, data=given.data, pictures=given.pictures, threads=given.threads, timed=not given.untimed)
        print(record.save(NAME, found, given.out))
    if given.write:
        result = page.read(NAME, given.out.parent)
        assert result is not None, f"{given.out}: measure first"
        page.write({NAME: table(result)}, PAGE)
        print(PAGE)


if __name__ == "__main__":
    main()
