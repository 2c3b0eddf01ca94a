"""Make the files beside this one with the libraries of the tools themselves; needed only to make them anew.

    pip install numpy pillow datumaro==1.13.12
    pip download --no-deps label-studio-sdk==2.1.2 cvat-sdk==2.80.0 nnunetv2==2.8.1     # then unpack the three wheels here
    python make.py

Single files of the three wheels are loaded, so that their own dependencies need not be installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import datumaro
import numpy as np
from datumaro.components.annotation import Mask, Polygon, PolyLine
from datumaro.components.media import Image

NAMES = ["background", "leaf"]
OUT = Path(__file__).parent


def load(path: str) -> Any:
    """Import one file of a wheel."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


labels = np.full((20, 30), 255, np.uint8)
labels[4:7, 3:20] = 0
labels[10:15, 8:11] = 1
labels[12, 20:29] = 1
labels[0, 0] = 1
labels[19, 29] = 0
np.savetxt(OUT / "labels.csv", labels, fmt="%d", delimiter=",")

brush = load("label_studio_sdk/converter/brush.py")
regions = [
    {
        "id": f"r{k}",
        "type": "brushlabels",
        "from_name": "tag",
        "to_name": "image",
        "original_width": 30,
        "original_height": 20,
        "image_rotation": 0,
        "value": {
            "format": "rle",
            "rle": list(brush.encode_rle(np.repeat((labels == k).ravel(), 4).astype(np.uint8) * 255)),
            "brushlabels": [name],
        },
    }
    for k, name in enumerate(NAMES)
]
annotation = {"id": 1, "was_cancelled": False, "completed_by": 1, "updated_at": "2026-01-02T00:00:00Z", "result": regions}
task = {"id": 7, "data": {"image": "/data/upload/3/1f2e3d4c-plant.png"}, "annotations": [annotation], "predictions": []}
(OUT / "label-studio.json").write_text(json.dumps([task]))

masks = [Mask(labels == k, label=k, id=k + 1, group=k + 1) for k in range(2)]
line = PolyLine([2.0, 3.0, 12.0, 3.0], label=0)
square = Polygon([8.0, 10.0, 11.0, 10.0, 11.0, 15.0, 8.0, 15.0], label=1)
for kind, shapes in (("coco_instances", masks), ("cvat", [line, square, *masks])):
    media = Image.from_numpy(np.zeros((20, 30, 3), np.uint8))
    item = datumaro.DatasetItem(id="plant", subset="default", media=media, annotations=shapes, attributes={"frame": 0})
    datumaro.Dataset.from_iterable([item], categories=NAMES).export(str(OUT / kind), kind, save_media=False)
(OUT / "coco_instances/annotations/instances_default.json").rename(OUT / "datumaro-coco.json")
(OUT / "cvat/default.xml").rename(OUT / "datumaro-cvat.xml")

sdk = load("cvat_sdk/masks.py")
(OUT / "cvat-sdk.json").write_text(json.dumps([sdk.encode_mask(labels == k) for k in range(2)]))

files = types.ModuleType("batchgenerators.utilities.file_and_folder_operations")  # stands in for two functions of it
files.save_json = lambda tree, path, sort_keys=True: Path(path).write_text(json.dumps(tree, indent=4))
files.join = os.path.join
sys.modules |= {
    "batchgenerators": types.ModuleType("b"),
    "batchgenerators.utilities": types.ModuleType("u"),
    files.__name__: files,
}
values = {"background": 0, "leaf": 1, "ignore": 2}
generate = load("nnunetv2/dataset_conversion/generate_dataset_json.py").generate_dataset_json
generate(str(OUT / "nnunet"), {0: "R", 1: "G", 2: "B"}, values, 1, ".png", license="CC0", converted_by="scribbleseg")
